"""No secret of a plugin is told, whatever the plugin does with it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from tests.daemon import Daemon

PLUGIN = """
import logging
from relay.api import Connector, ConnectorSettings, Decoded, Denied, Filter, FilterSettings, Malformed, Reject, Retry
from relay.api import Secret, Source, SourceSettings, Unreadable, UnreadableEvent

class Leak(Source, type="leak"):
    class Settings(SourceSettings):
        secret: Secret

        def warnings(self):
            yield "secret", f"{self.secret.reveal()} is short"

    @property
    def told(self):
        return self.settings.secret.reveal()

    @property
    def notice(self):
        return f"{self.told} is my secret" + "x" * 5_000_000

    def decode(self, request):
        do = request.body.decode()
        if do == "deny":
            raise Denied(f"{self.told} is right" + "x" * 5_000_000)
        if do == "malformed":
            raise Malformed(f"{self.told} is right" + "x" * 5_000_000)
        if do == "raise":
            raise ValueError(self.told)
        if do == "log":
            self.log.warning("got %s", self.told)
            self.log.warning(f"has {self.told}", value=[{"inner": self.told}], large="x" * 5_000_000)
            logging.getLogger("library").warning("a library says %s", self.told)
            try:
                raise ValueError(self.told)
            except ValueError:
                self.log.exception("failed")
                logging.getLogger("library").exception("failed")
        unreadable = Unreadable(b"{}", f"no {self.told}" + "x" * 5_000_000)
        return Decoded([self.kind("a")], [b'{"id": "1"}'], [unreadable] * (do == "park"))

class Sieve(Filter, type="sieve"):
    class Settings(FilterSettings):
        secret: Secret

    def apply(self, event):
        self.log.warning(f"filter has {self.settings.secret.reveal()}")
        said = f"{self.settings.secret.reveal()} is my secret"
        raise UnreadableEvent(event, "data", said) if event.offset else ValueError(said)

class Sink(Connector, type="sink"):
    class Settings(ConnectorSettings):
        secret: Secret

    async def deliver(self, batch):
        self.notice = f"{self.settings.secret.reveal()} is my secret"
        self.log.warning(self.notice, value=self.settings.secret.reveal())
        if self.name == "refusing":
            raise Reject(self.notice, answer=self.notice)
        if self.name in ("busy", "odd"):
            raise (Retry if self.name == "busy" else KeyError)(self.notice)
"""
TABLES = """
[source.leak]
type = "leak"
path = "/leak"
secret = { file = "%(folder)s/source" }
[filter.sieve]
type = "sieve"
secret = { file = "%(folder)s/filter" }
[connector.sink]
type = "sink"
secret = { file = "%(folder)s/connector" }
[connector.sieved]
type = "sink"
secret = { file = "%(folder)s/connector" }
filters = ["sieve"]
[connector.refusing]
type = "sink"
secret = { file = "%(folder)s/connector" }
[connector.busy]
type = "sink"
secret = { file = "%(folder)s/connector" }
[connector.odd]
type = "sink"
secret = { file = "%(folder)s/connector" }
"""
SECRETS = {"source": "kept-by-the-source", "filter": "kept-by-the-filter", "connector": "kept-by-the-connector"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(secret)
    return tmp_path


@pytest.mark.promise(9)
async def test_no_answer_reason_line_or_notice_has_a_secret_and_all_of_them_end(daemon: Daemon, secrets: Path) -> None:
    """Looked at: answers to senders, parked events, the log of plugins and of libraries, notices, the status."""
    (daemon.plugins / "leak.py").write_text(PLUGIN)
    daemon.configure("10-all", TABLES % {"folder": secrets})
    await daemon.start()
    answers = {}
    for do, status in {"deny": 401, "malformed": 400, "raise": 500, "log": 202, "park": 202}.items():
        answers[do] = await daemon.post(do.encode(), "/leak")
        assert answers[do][0] == status
    for do in ("deny", "malformed"):
        assert answers[do][1]["detail"].startswith("... is right")
        assert len(answers[do][1]["detail"]) <= 1000
    await daemon.settled("sink", 2)
    parked = await daemon.until(daemon.parked, lambda parked: len(parked) >= 5)
    reasons = {one.reason for one in parked if one.connector}
    sieved = {"filter sieve: ValueError: ... is my secret", "filter sieve: ... is my secret"}
    assert reasons == sieved | {"... is my secret"}
    assert {one.answer for one in parked if one.connector == "refusing"} == {"... is my secret"}
    assert max(len(one.reason) for one in parked) <= 1000
    told = await daemon.until(
        lambda: CliRunner().invoke(cli, ["status", "--json", "--state", str(daemon.state)]).output,
        lambda told: '"reason": "... is my secret"' in told and "KeyError: '... is my secret'\"" in told,
    )
    assert '"notice": "... is my secret"' in told
    assert await daemon.stop() == 0
    assert not daemon.logged("log lines were dropped")
    assert {line["filter"] for line in daemon.logged("filter has ...")} == {"sieve"}
    lines = [line for line in daemon.logs if line["message"] in ("got ...", "has ...")]
    assert [line.get("value") for line in lines] == [None, [{"inner": "..."}]]
    assert [line["exception"].rpartition("\n")[2] for line in daemon.logged("failed")] == ["ValueError: ..."] * 2
    for said in (*daemon.stderr, str(answers), str([one.reason for one in parked]), told):
        assert not [secret for secret in SECRETS.values() if secret in said], said


CHECKED = """
from typing import Self
from pydantic import model_validator
from relay.api import Secret, Source, SourceSettings

class Strict(Source, type="strict"):
    def decode(self, request):
        raise NotImplementedError

    class Settings(SourceSettings):
        secret: Secret
        password: str = ""

        @model_validator(mode="after")
        def check(self) -> Self:
            raise ValueError(f"{self.secret.reveal()} and {self.password} are no good" + "x" * 5_000_000)

class Wary(Strict, type="wary"):
    class Settings(SourceSettings):
        secret: Secret

        def contradictions(self):
            yield "secret path", f"{self.secret.reveal()} does not go with the path"

class Warning(Strict, type="warning"):
    class Settings(SourceSettings):
        secret: Secret

        def warnings(self):
            yield "secret", f"{self.secret.reveal()} is short"

class Torn(Strict, type="torn"):
    class Settings(SourceSettings):
        secret: Secret

    def __init__(self, name, settings):
        raise ValueError(f"{settings.secret.reveal()} is no good" + "x" * 5_000_000)
"""
TORN = """
[source.torn]
type = "torn"
path = "/torn"
secret = { file = "%(folder)s/source" }
"""
CHECKED_TABLES = """
[source.strict]
type = "strict"
path = "/strict"
password = "hunter2hunter2"
secret = { file = "%(folder)s/source" }
[source.wary]
type = "wary"
path = "/wary"
secret = { file = "%(folder)s/source" }
[source.warning]
type = "warning"
path = "/warning"
secret = { file = "%(folder)s/source" }
"""


@pytest.mark.promise(9)
def test_relay_check_tells_no_secret_and_no_endless_reason(secrets: Path) -> None:
    """Looked at: validators of settings, contradictions, warnings, what cannot be made."""
    for name in ("plugins", "conf.d"):
        (secrets / name).mkdir()
    (secrets / "plugins" / "strict.py").write_text(CHECKED)
    command = ["check", str(secrets / "conf.d"), "--plugins", str(secrets / "plugins")]
    checked = ("... and ... are no good", "... does not go with the path", "... is short")
    for tables, reasons in ((CHECKED_TABLES, checked), (TORN, ("cannot be made: ValueError: ... is no good",))):
        (secrets / "conf.d" / "all.toml").write_text(tables % {"folder": secrets})
        for more in ([], ["--json"]):
            said = CliRunner().invoke(cli, [*command, *more]).output
            assert SECRETS["source"] not in said
            assert "hunter2" not in said
            assert len(said) < 10_000
            assert [reason for reason in reasons if reason not in said] == []
