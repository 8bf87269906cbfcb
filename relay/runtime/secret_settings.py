"""Which settings refer to secrets, for an admin who renews one."""

from relay.api import Secret, Settings
from relay.config import Config, KeyPath, format_path, list_leaves


def list_secrets(table: str, settings: Settings, config: Config) -> list[str]:
    """List the settings of a table that refer to secrets, with each reference and who shares it."""
    tables: dict[str, Settings] = {f"source {name}": one.settings for name, one in config.sources.items()}
    tables |= {f"connector {name}": one.settings for name, one in config.connectors.items()}
    tables |= {f"alert {name}": one.settings for name, one in config.alerts.items()}
    found: list[str] = []
    for path, secret in _find_secrets(settings):
        place = secret.how, secret.name
        others = [
            other
            for other, theirs in tables.items()
            if other != table and any((leaf.how, leaf.name) == place for _, leaf in _find_secrets(theirs))
        ]
        shared = f"; {' and '.join(others)} {'uses' if len(others) == 1 else 'use'} it, too" if others else ""
        found.append(f'{format_path(path)} ({secret.how} "{secret.name}"{shared})')
    return found


def _find_secrets(settings: Settings) -> list[tuple[KeyPath, Secret]]:
    return [(path, leaf) for path, leaf in list_leaves((), settings) if isinstance(leaf, Secret)]
