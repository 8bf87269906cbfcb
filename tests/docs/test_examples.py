"""The examples of docs/plugins, and the program of docs/explain/journal-format.md, run and do what their pages say."""

import hmac
import json
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.api import Denied, Kind, Request, Response, Secret
from relay.config.load import load
from relay.config.plugins.registry import Registry
from relay.ingest.decoded import check_decoded
from relay.journal import compression
from relay.journal.journal import Journal
from relay.store.log import JournalLimits

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    page for page in DOCS.glob("plugins/*.md") if not page.name.endswith("api.md") and "```python\n" in page.read_text()
)
TABLE = re.compile(r"^```toml\n\[(?:source|connector|filter|alert)\.", re.MULTILINE)
"""Begins an example of a configuration."""


def blocks(page: Path) -> list[str]:
    """Return the Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def files(pages: list[Path]) -> dict[str, str]:
    """Return the examples by the file that the first line of each block names. Blocks of one file are joined."""
    found: dict[str, str] = {}
    for code in (code for page in pages for code in blocks(page)):
        name = code.partition("\n")[0].removeprefix("# ")
        found[name] = found.get(name, "") + code
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_example_names_its_file(page: Path) -> None:
    for code in blocks(page):
        assert re.match(r"# \w+\.py\n", code), code


def test_the_examples_pass_their_tests(tmp_path: Path) -> None:
    for name, code in files(PAGES).items():
        (tmp_path / name).write_text(code)
    one_by_one = files(PAGES)["test_chat.py"].split("async def test_")[0]
    suite = (
        one_by_one.replace("Chat", "OneByOne").replace('"chat"', '"one_by_one"').replace("from chat", "from one_by_one")
    ).replace("(ConnectorSuite):", "(ConnectorSuite):\n    many = 100\n")
    (tmp_path / "test_one_by_one.py").write_text(suite)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\npythonpath = .\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


@pytest.fixture
def plugin_folder(tmp_path: Path) -> Path:
    """A plugin folder that holds every example but the tests."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    for name, code in files(PAGES).items():
        if not name.startswith("test_"):
            (folder / name).write_text(code)
            (folder / name).chmod(0o644)
    return folder


def test_relay_loads_every_example(plugin_folder: Path) -> None:
    command = [sys.executable, "-m", "relay", "plugins", "--json", "--plugins", str(plugin_folder)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    listed = {one["name"]: one for one in json.loads(result.stdout)}
    for path in plugin_folder.glob("*.py"):
        assert not listed[path.stem]["error"], listed[path.stem]
        assert listed[path.stem]["provides"], path


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    """Makes a source of docs/plugins/source.md with a secret."""
    found: dict[str, Any] = {}
    for code in files([DOCS / "plugins/source.md"]).values():
        exec(code, found)

    def make(name: str, secret: str) -> Any:
        monkeypatch.setenv("SECRET", secret)
        given = {"secret": Secret("env", "SECRET")}
        given |= {"verify_token": Secret("env", "SECRET")} if name == "Meta" else {}
        kind = found[name]
        return kind("mine", kind.Settings(type=kind.type, path="/in", **given))

    return make


def signature(secret: str, signed: bytes) -> bytes:
    return hmac.digest(secret.encode(), signed, "sha256")


BODY, NOW = b'{"id": 820982911946154508}', "1796302266"
SIGNED: list[tuple[str, str, Request]] = [
    (  # the example of GitHub's documentation
        "GitHub",
        "It's a Secret to Everybody",
        Request(
            b"Hello, World!",
            {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        ),
    ),
    ("Shopify", "key", Request(BODY, {"X-Shopify-Hmac-Sha256": b64encode(signature("key", BODY)).decode()})),
    (
        "Stripe",
        "key",
        Request(
            BODY,
            {
                "Stripe-Signature": f"t={NOW},v1={'00' * 32},"
                f"v1={signature('key', f'{NOW}.'.encode() + BODY).hex()},v0=abc"
            },
        ),
    ),
    (
        "Slack",
        "key",
        Request(
            BODY,
            {
                "X-Slack-Signature": f"v0={signature('key', f'v0:{NOW}:'.encode() + BODY).hex()}",
                "X-Slack-Request-Timestamp": NOW,
            },
        ),
    ),
    (
        "Zoom",
        "key",
        Request(
            BODY,
            {
                "x-zm-signature": f"v0={signature('key', f'v0:{NOW}:'.encode() + BODY).hex()}",
                "x-zm-request-timestamp": NOW,
            },
        ),
    ),
    ("Meta", "key", Request(BODY, {"X-Hub-Signature-256": f"sha256={signature('key', BODY).hex()}"})),
]


@pytest.mark.parametrize(("name", "secret", "request_"), SIGNED, ids=[name for name, *_ in SIGNED])
def test_a_source_verifies_what_its_sender_signs(
    documented: Callable[[str, str], Any], name: str, secret: str, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOW))
    source = documented(name, secret)
    source.verify(request_)
    for wrong in (Request(request_.body + b" ", request_.headers), Request(request_.body)):
        with pytest.raises(Denied):
            source.verify(wrong)


def test_github_events_have_type_and_id_of_the_headers(documented: Callable[[str, str], Any]) -> None:
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "72d3162e"}
    decoded = documented("GitHub", "key").decode(Request(b'{"ref": "main"}', headers))
    assert ([kind.type for kind in decoded.kinds], decoded.ids) == (["github.push"], ["72d3162e"])
    assert decoded.bodies == [b'{"ref": "main", "delivery": "72d3162e"}']
    assert check_decoded(decoded, "mine", set(), []) == decoded


def test_signed_sources_have_the_type_of_the_body(documented: Callable[[str, str], Any]) -> None:
    decoded = documented("Stripe", "key").decode(Request(b'{"type": "charge.succeeded", "id": "evt_1"}'))
    assert [kind.type for kind in decoded.kinds] == ["charge.succeeded"]
    assert check_decoded(decoded, "mine", set(), []) == decoded


def test_sources_answer_the_challenges_of_their_senders(documented: Callable[[str, str], Any]) -> None:
    slack = documented("Slack", "key")
    assert slack.respond(Request(b'{"type": "url_verification", "challenge": "3eZ"}')) == Response("3eZ")
    assert slack.respond(Request(b'{"type": "event_callback"}')) is None
    body = b'{"event": "endpoint.url_validation", "payload": {"plainToken": "q"}}'
    zoom = documented("Zoom", "key").respond(Request(body))
    assert json.loads(zoom.body) == {"plainToken": "q", "encryptedToken": signature("key", b"q").hex()}
    meta = documented("Meta", "key")
    query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    assert meta.respond(Request(method="GET", query_string=f"{query}key")) == Response("1158201444")
    with pytest.raises(Denied):
        meta.respond(Request(method="GET", query_string=f"{query}other"))


def test_settings_that_contradict_each_other_are_named(plugin_folder: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    source = '[source.in]\ntype = "json"\npath = "/in"\n'
    (conf / "10.toml").write_text(f'{source}[connector.mine]\ntype = "quota"\nsoft = 9\nhard = 8\n')
    command = [sys.executable, "-m", "relay", "check", str(conf), "--plugins", str(plugin_folder)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 78
    assert "soft (9) must be at most hard (8)" in result.stdout + result.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if TABLE.search(page.read_text())], ids=lambda page: page.name)
def test_the_tables_of_a_page_are_valid(page: Path, plugin_folder: Path, tmp_path: Path) -> None:
    tables = "".join(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    (tmp_path / "50-example.toml").write_text(tables)
    load([tmp_path], Registry.discover([plugin_folder]), secrets_required=False)


@pytest.mark.parametrize("compress", [False, True])
async def test_the_program_on_the_journal_format_reads_a_journal(
    tmp_path: Path, compress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "LEAST_BYTES", 0)
    (tmp_path / "read_segment.py").write_text("".join(blocks(DOCS / "explain/journal-format.md")))
    limits = JournalLimits(max_size=16 << 20, retention=3600, compress=compress)
    journal = Journal(tmp_path / "journal", limits, 1 << 20)
    await journal.append([Kind("braze", "users.messages.email.Open")], [b'{"id": 1}'])
    await journal.append(
        [Kind("shop", "order"), Kind("braze", "users.canvas.Entry")] * 9, [b'{"id": 2}', b'{"id":3}'] * 9
    )
    await journal.close()
    (segment,) = (tmp_path / "journal").glob("*.log")
    command = [sys.executable, str(tmp_path / "read_segment.py"), str(segment)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (b'"zstd"' in segment.read_bytes()) == compress
    assert result.stdout.splitlines()[:3] == [
        '0 users.messages.email.Open {"id": 1}',
        '1 order {"id": 2}',
        '2 users.canvas.Entry {"id":3}',
    ]
