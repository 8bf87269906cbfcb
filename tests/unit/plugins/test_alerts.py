"""The alert types: what each of them sends, to real servers and a real program."""

import asyncio
import json
import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trustme
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from standardwebhooks import Webhook as Verifier

from relay.api import Alarm, Alert, Message, Reject, Retry, Secret, Unauthorized
from relay.testing import Destination, make_message
from relay_plugins.alerts import Command, Email, Slack, Webhook
from relay_plugins.alerts.slack import MOST, make_body

ERROR = {"at": 1_800_000_000.0, "reason": "HTTP 503: <!channel> busy", "status": 503}
FACTS = {"last_error": ERROR, "event": {"type": "users.messages.email.Open", "id": "e-1"}, "pending": 12}
HEAP = Alarm(
    kind="failing",
    subject="connector heap",
    state="began",
    sentence="heap: failing",
    since=1_800_000_000.0,
    facts=FACTS,
)
BRAZE = Alarm(
    kind="source_refusing",
    subject="source braze",
    state="lasts",
    sentence="braze: has refused everything since 12:00 UTC: 401",
    since=1_800_000_000.0,
    changed="one day left of five",
    facts={"deadline": 1_800_432_000.0},
)
OVER = Alarm(kind="failing", subject="connector heap", state="over", sentence="heap: working", since=1_800_000_000.0)


async def sent(alert: Alert, message: Message | None = None) -> None:
    try:
        await alert.send(message or make_message())
    finally:
        await alert.release()


@pytest.mark.parametrize(
    ("alarms", "title"),
    [
        ([HEAP], "relay on host-1: connector heap: failing"),
        ([BRAZE], "relay on host-1: source braze: still refusing"),
        ([OVER], "relay on host-1: connector heap: no longer failing"),
        (
            [replace(BRAZE, kind="journal_full", subject="journal", was="journal_filling")],
            "relay on host-1: journal: full, was filling",
        ),
        ([replace(HEAP, kind="parked")], "relay on host-1: connector heap: events parked"),
        ([replace(HEAP, kind="doubt", subject="journal")], "relay on host-1: journal: not as the database knows it"),
        (
            [replace(OVER, kind="doubt", subject="journal of worker 1")],
            "relay on host-1: journal of worker 1: as the database knows it",
        ),
        (
            [replace(HEAP, kind="database_failing", subject="journal")],
            "relay on host-1: journal: the database cannot be written",
        ),
        ([replace(HEAP, kind="doubt", subject="clock")], "relay on host-1: clock: ahead of what can be right"),
        ([replace(OVER, kind="parked")], "relay on host-1: connector heap: no events parked any more"),
        ([HEAP, BRAZE], "relay on host-1: 2 alarms: connector heap, source braze"),
        ([OVER, OVER], "relay on host-1: 2 are over: connector heap"),
    ],
)
def test_a_title_says_what_and_where(alarms: list[Alarm], title: str) -> None:
    assert make_message(*alarms).title == title


def test_the_time_of_another_kind_is_that_of_the_trouble() -> None:
    """A certificate that was expiring first is not expired since then."""
    alarm = replace(BRAZE, kind="certificate_expired", subject="certificate ingest", was="certificate_expiring")
    assert "expired, was expiring, trouble since 2027-01-15T08:00:00Z\n" in make_message(alarm).text


def test_the_text_has_all_that_is_known() -> None:
    message = make_message(HEAP, BRAZE, test=True)
    paragraphs = [
        "[test] relay on host-1: 2 alarms: connector heap, source braze",
        "connector heap: failing, since 2027-01-15T08:00:00Z\nheap: failing\n"
        "last error: HTTP 503: <!channel> busy at 2027-01-15T08:00:00Z\n"
        "one of the events: users.messages.email.Open e-1",
        "source braze: still refusing, since 2027-01-15T08:00:00Z\n"
        "braze: has refused everything since 12:00 UTC: 401\none day left of five\n"
        "Braze disables the Current at 2027-01-20T08:00:00Z, after 5 days of errors",
    ]
    assert message.text == "\n\n".join(paragraphs)


@given(st.lists(st.sampled_from([HEAP, BRAZE, OVER]), max_size=60), st.integers(300, 5000))
def test_a_brief_text_fits_and_counts_what_it_leaves_out(alarms: list[Alarm], most: int) -> None:
    message = make_message(*(alarms or [HEAP]))
    text = message.brief(most)
    assert len(text) <= most
    told = text.count(", since ")
    left = re.search(r"and (\d+) more: relay alerts show$", text)
    assert told + (int(left[1]) if left else 0) == len(message.alarms)


async def test_a_webhook_is_json_and_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
    async with Destination() as destination:
        monkeypatch.setenv("SIGNING", secret)
        monkeypatch.setenv("WHERE", destination.url + "hook?key=s3cret")
        given: dict[str, Any] = {"url": "WHERE", "signing_secret": "SIGNING", "token": "TOKEN"}
        monkeypatch.setenv("TOKEN", "s3cret-t0ken")
        settings = Webhook.Settings.model_validate(
            {"type": "webhook"} | {name: {"env": variable} for name, variable in given.items()}
        )
        message = make_message(HEAP)
        await sent(Webhook("ops", settings), message)
    (request,) = destination.requests
    assert request.target == "/hook?key=s3cret"
    assert request.headers["Idempotency-Key"] == message.id
    assert request.headers["Authorization"] == "Bearer s3cret-t0ken"
    said: Any = Verifier(secret).verify(request.body, {k.lower(): v for k, v in request.headers.items()})
    assert said == message.data
    assert said["id"] == message.id
    assert said["alarms"][0]["facts"]["event"] == {"type": "users.messages.email.Open", "id": "e-1"}


def test_an_alert_without_a_proper_send_is_refused_when_it_is_defined() -> None:
    with pytest.raises(TypeError, match="alert type idle: Idle needs a method `async def send"):

        class Idle(Alert, type="idle"):
            pass

    with pytest.raises(TypeError, match="async def send"):

        class Blocking(Alert, type="blocking"):
            def send(self, message: Message) -> None:  # type: ignore[override]
                pass


@pytest.mark.parametrize(("status", "raised"), [(500, Retry), (429, Retry), (400, Reject), (404, Unauthorized)])
async def test_answers_mean_what_they_do_for_connectors(status: int, raised: type[Exception]) -> None:
    async with Destination(status) as destination:
        url = destination.url + "services/T0/B0/s3cret"
        with pytest.raises(raised) as caught:
            await sent(Slack("ops", Slack.Settings(type="slack", url=url)))
    assert "s3cret" not in str(caught.value)


FORMS = {
    "slack": {
        "required": ["text"],
        "properties": {"text": {"type": "string", "maxLength": 40_000}, "unfurl_links": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "discord": {
        "required": ["content"],
        "properties": {
            "content": {"type": "string", "minLength": 1, "maxLength": 2000},
            "allowed_mentions": {"const": {"parse": []}},
        },
        "additionalProperties": False,
    },
    "teams": {
        "required": ["type", "attachments"],
        "properties": {
            "type": {"const": "message"},
            "attachments": {
                "minItems": 1,
                "maxItems": 1,
                "items": {
                    "required": ["contentType", "content"],
                    "properties": {
                        "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                        "contentUrl": {"const": None},
                        "content": {
                            "required": ["type", "version", "body", "$schema"],
                            "properties": {
                                "type": {"const": "AdaptiveCard"},
                                "body": {
                                    "minItems": 2,
                                    "items": {
                                        "required": ["type", "text", "wrap"],
                                        "properties": {"type": {"const": "TextBlock"}, "wrap": {"const": True}},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""What the services take, by their documentation."""


@pytest.mark.parametrize("form", FORMS)
async def test_chat_services_get_the_fields_that_they_take(form: Any) -> None:
    message = make_message(HEAP, *[BRAZE] * 90)
    async with Destination() as destination:
        await sent(Slack("ops", Slack.Settings(type="slack", url=destination.url, form=form)), message)
    (request,) = destination.requests
    assert request.headers["Content-Type"] == "application/json"
    said = json.loads(request.body)
    Draft202012Validator(FORMS[form]).validate(said)
    assert len(request.body) < 28_000
    assert "more: relay alerts show" in request.body.decode()
    assert make_body(message, form) == said


def test_what_a_destination_says_calls_nobody_in_slack() -> None:
    text = make_body(make_message(HEAP), "slack")["text"]
    assert "&lt;!channel&gt; busy" in text
    assert "<!channel>" not in text
    assert MOST["slack"] <= MOST["discord"] == 2000  # Discord takes both forms


class Mailbox:
    """What a mail server has taken, and by whom."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, list[str], EmailMessage]] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd calls it so
        from email import message_from_bytes, policy

        letter = message_from_bytes(envelope.content, policy=policy.default)
        if self.answer.startswith("250"):
            self.letters.append((envelope.mail_from, envelope.rcpt_tos, letter))  # type: ignore[arg-type]
        return self.answer


def allow(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"relay", b"s3cret")
    return AuthResult(success=good, handled=good)


@asynccontextmanager
async def smtp(tls: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Mailbox, int]]:
    """A real mail server on a free port, with a certificate that this process trusts."""
    authority = trustme.CA()
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    mailbox, options = Mailbox(), dict[str, Any]()
    if tls == "starttls":
        options["tls_context"] = context
    if tls != "none":
        options |= {"authenticator": allow, "auth_required": True, "auth_require_tls": tls == "starttls"}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, loop=loop, **options), "localhost", 0, ssl=context if tls == "tls" else None
    )
    async with server:
        yield mailbox, server.sockets[0].getsockname()[1]


def email(port: int, tls: Any, login: bool = True) -> Email:
    given: dict[str, Any] = {"user": "relay", "password": Secret("env", "PASSWORD")} if login else {}
    return Email(
        "ops",
        Email.Settings(
            type="email",
            host="localhost",
            port=port,
            tls=tls,
            sender="relay@example.com",
            to=("ops@example.com", "lead@example.com"),
            **given,
        ),
    )


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd knows TLS from the start by no name
@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
async def test_email_goes_through_a_real_server(tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "s3cret")
    message = make_message(HEAP, BRAZE)
    async with smtp(tls, tmp_path, monkeypatch) as (mailbox, port):
        await sent(email(port, tls, login=tls != "none"), message)
    ((sender, to, letter),) = mailbox.letters
    assert (sender, to) == ("relay@example.com", ["ops@example.com", "lead@example.com"])
    assert letter["Subject"] == message.title
    assert letter["Message-ID"] == f"<{message.id}@example.com>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content().split() == message.text.split()


async def test_what_a_mail_server_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with smtp("starttls", tmp_path, monkeypatch) as (mailbox, port):
        monkeypatch.setenv("PASSWORD", "wr0ng-one")
        with pytest.raises(Unauthorized, match="localhost refuses the login: 535") as caught:
            await sent(email(port, "starttls"))
        assert "wr0ng" not in str(caught.value)
        monkeypatch.setenv("PASSWORD", "s3cret")
        mailbox.answer = "452 no room"
        with pytest.raises(Retry, match="no room"):
            await sent(email(port, "starttls"))
        monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
        with pytest.raises((Retry, OSError), match=r"(?i)certificate"):
            await sent(email(port, "starttls"))
    with pytest.raises(Retry, match=r"^localhost: Error connecting to localhost on port \d+: ") as caught:
        await sent(email(port, "none", login=False))
    assert str(caught.value).count("Connect call failed") + str(caught.value).count("refused") <= 1
    assert mailbox.letters == []


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Command]:
    """Makes an alert that runs Python code with the arguments."""

    def make(code: str, *arguments: str, timeout: str = "10s") -> Command:
        path = tmp_path / "told.py"
        path.write_text(code)
        argv = (sys.executable, "-S", str(path), *arguments)
        return Command("ops", Command.Settings(type="command", command=argv, timeout=timeout))  # type: ignore[arg-type]

    return make


async def test_a_program_gets_the_message_and_no_secret(
    command: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAP_TOKEN", "s3cret")
    code = "import os, sys, pathlib\npathlib.Path(sys.argv[1]).write_text(sys.stdin.read() + repr(dict(os.environ)))"
    message = make_message(HEAP)
    await sent(command(code, str(tmp_path / "$(got)")), message)
    got = (tmp_path / "$(got)").read_text()
    assert json.JSONDecoder().raw_decode(got)[0] == message.data
    assert "s3cret" not in got


def test_a_program_that_ends_without_reading_gets_no_second_run() -> None:
    alert = Command("ops", Command.Settings(type="command", command=("true",)))

    async def send_often() -> None:
        with patch.object(
            asyncio, "create_subprocess_exec", partial(start_and_let_end, asyncio.create_subprocess_exec)
        ):
            for _ in range(5):
                await sent(alert)

    uvloop.run(send_often())  # its pipes tell by RuntimeError that they are closed


async def start_and_let_end(start: Any, *arguments: Any, **options: Any) -> asyncio.subprocess.Process:
    """Start a program, and return once it has ended and its pipe is closed."""
    process: asyncio.subprocess.Process = await start(*arguments, **options)
    async with asyncio.timeout(30):
        while process.stdin is not None and not process.stdin.is_closing():
            await asyncio.sleep(0.01)
    return process


async def test_what_a_program_says_of_its_failure_is_told(command: Callable[..., Command]) -> None:
    with pytest.raises(Retry, match=r"python\S* ended with 3: no modem$"):
        await sent(command("import sys\nsys.stderr.write('x' * 100_000 + '\\nno modem\\n')\nsys.exit(3)"))
    with pytest.raises(Retry, match=r"python\S* ended with 3 and said nothing$"):
        await sent(command("import sys\nsys.exit(3)"))
    with pytest.raises(OSError, match="No such file"):
        await sent(Command("ops", Command.Settings(type="command", command=("/no/such/program",))))


async def test_a_program_that_is_cut_off_leaves_nothing_behind(command: Callable[..., Command], tmp_path: Path) -> None:
    code = """
import os, pathlib, sys, time
if child := os.fork():
    pathlib.Path(sys.argv[1]).write_text(str(child))
time.sleep(600)
"""
    group = asyncio.get_running_loop().create_task(sent(command(code, str(tmp_path / "pid"))))
    async with asyncio.timeout(60):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    group.cancel()
    with pytest.raises(asyncio.CancelledError):
        await group
    pid = (tmp_path / "pid").read_text()
    stat = Path(f"/proc/{pid}/stat")
    async with asyncio.timeout(60):
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
            await asyncio.sleep(0.01)
