"""The table of all generated pages. To add a page: write a module with `page() -> str`, and name it here."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tests.docs.generate import (
    admin_api,
    commands,
    configuration,
    database,
    event_types,
    guarantees,
    log_messages,
    metrics,
    plugin_api,
    surface,
)
from tests.docs.generate.conf_d import with_comments

ROOT: Final = Path(__file__).parents[3]

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    **{f"conf.d/{file.name}": partial(with_comments, file) for file in sorted((ROOT / "conf.d").glob("*.toml*"))},
    "docs/reference/configuration.md": configuration.page,
    "docs/reference/database.md": database.page,
    "docs/reference/event-types.md": event_types.page,
    "docs/reference/commands.md": commands.page,
    "docs/plugins/api.md": plugin_api.page,
    "docs/plugins/testing-api.md": plugin_api.testing_page,
    "tests/rules/public_surface.txt": surface.surface,
    "docs/explain/guarantees.md": guarantees.page,
    "docs/reference/admin-api.md": admin_api.page,
    "docs/reference/metrics.md": metrics.page,
    "docs/reference/log-messages.md": log_messages.page,
}
"""The function that makes each page, by the path of the page from the root of the repository."""


def is_current(path: str, text: str) -> bool:
    """Tell whether the page on disk has this text."""
    page = ROOT / path
    return page.is_file() and page.read_text(encoding="utf-8") == text
