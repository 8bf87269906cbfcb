"""What goes from the public surface still works for one version, and says so."""

from pathlib import Path

import pytest

import relay.api
from relay.config.plugins.registry import Registry

PLUGIN = """
from relay.api import OLD, Filter

class Loud(Filter, type="loud"):
    def apply(self, event):
        return event.with_type(OLD)
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(relay.api.GOING, "OLD", ("shop.Old", "write the type yourself"))
    (tmp_path / "loud.py").write_text(PLUGIN)
    return tmp_path


def test_a_plugin_with_a_name_that_goes_works_and_is_warned(plugins: Path) -> None:
    with pytest.warns(FutureWarning, match="^relay.api.OLD goes with the next version of relay: write the") as warned:
        registry = Registry.discover([plugins])
    assert {(one.filename, one.lineno) for one in warned} == {(str(plugins / "loud.py"), 2)}
    (info,) = [info for info in registry.list_plugins() if info.name == "loud"]
    assert (info.error, info.provides) == (None, ("filter loud",))


def test_a_name_that_has_gone_is_an_error_of_the_plugin(plugins: Path) -> None:
    relay.api.GOING.clear()
    registry = Registry.discover([plugins])
    (info,) = [info for info in registry.list_plugins() if info.name == "loud"]
    assert info.error is not None
    assert "cannot import name 'OLD' from 'relay.api'" in info.error
