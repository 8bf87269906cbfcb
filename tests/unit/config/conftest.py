import pytest

from relay.config.plugins.registry import Registry
from tests.unit.config.conf_files import PLUGINS


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "tiny.py").write_text(PLUGINS)
    return Registry.discover([folder])


@pytest.fixture(autouse=True)
def outside_systemd(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
