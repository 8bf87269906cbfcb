"""The base of every alert: hands a message about what is wrong to people who are not looking at relay."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar, TypeVarTuple

from pydantic import Field

from relay.api.plugin import Plugin
from relay.api.settings import Duration, Settings
from relay.api.threads import release
from relay.api.transport.answer import Answered

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

State = Literal["began", "lasts", "flaps", "over"]
SUBJECTS: Final = 5
"""Of a message, named in its title."""
TEXT_CHARS: Final = 20_000
"""Of a message's text, at most."""
TEST: Final = "test"
"""The kind of an alarm that somebody has asked for."""
CONNECTIONS: Final = 1
"""Messages are sent one by one."""


class AlertSettings(Settings):
    """Settings of every alert. An alert type adds its own."""

    type: str
    """Type of the alert: a type below, or the type of a plugin."""
    enabled: bool = True
    """Whether relay sends messages by this alert."""
    on: tuple[str, ...] = Field(default=(), min_length=1)
    """Kinds of problems that the alert reports. Left out: all kinds but `paused`."""
    only: tuple[str, ...] = Field(default=(), min_length=1)
    """Subjects that the alert reports, such as `["heap", "source braze"]`. Left out: all subjects.

    A subject is a name (`"heap"`), a kind and a name (`"source heap"`), or a kind (`"connector"`: all connectors). The
    kinds are `connector`, `source`, `journal`, `worker`, `erasures`, `certificate`, `alert`, `clock` and `relay`.
    """
    after: Duration = Field(default=300.0, ge=0)
    """Time that a problem must last before the alert reports the problem, and must be over before the alert reports the
    end."""
    again: Duration = Field(default=86400.0, ge=0)
    """Time between two messages on the same problem while the problem lasts. 0: one message."""
    resolved: bool = True
    """Whether the alert reports the end of a problem."""
    timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """Maximum time to send a message. After that the attempt has failed, and relay tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One thing that a message reports."""

    kind: str
    """What is wrong, as in the setting `on`."""
    subject: str
    """What it is about: "connector heap", "source braze", "journal", "worker 1", "relay"."""
    state: State
    """`began`; `lasts`: reported again; `flaps`: comes and goes; or `over`."""
    sentence: str
    """One line for people, as `/health` has it: what is wrong, what waits, what to do."""
    since: float
    """Unix seconds at which it began."""
    changed: str = ""
    """What has changed since the last message about it."""
    was: str = ""
    """The kind of the last message, if it was another kind."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Values for programs, as JSON: numbers, `last_error`, `event` (type and id), `deadline`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of an alert: everything to report at a time."""

    id: str
    """The same for every attempt to send the message."""
    at: float
    """Unix seconds at which relay made the message."""
    relay: str
    """The setting `runtime.name`."""
    host: str
    alarms: tuple[Alarm, ...]
    left_out: int = 0
    """How many further alarms there was no room for."""
    test: bool = False
    """Whether somebody has asked for a test: nothing need be wrong."""

    @property
    def title(self) -> str:
        """Return one line, for the subject of an e-mail."""
        prefix = f"{'[test] ' if self.test else ''}{self.relay} on {self.host}: "
        if len(self.alarms) == 1 and not self.left_out:
            return prefix + _format_headline(self.alarms[0])
        over = all(one.state == "over" for one in self.alarms)
        number = len(self.alarms) + self.left_out
        named = [one.subject for one in self.alarms[:SUBJECTS]]
        more = number - len(named)
        subjects = ", ".join([*dict.fromkeys(named), *([f"{more} more"] if more else [])])
        return f"{prefix}{number} {'are over' if over else 'alarms'}: {subjects}"

    @property
    def text(self) -> str:
        """Return the whole message for people, in lines: the title, then a paragraph per alarm."""
        return self.brief(TEXT_CHARS)

    def brief(self, most: int) -> str:
        """Return the text in at most `most` characters: the title, and as many whole paragraphs as fit."""
        parts, rest = [self.title], [*map(_format_paragraph, self.alarms)]
        while rest and len("\n\n".join([*parts, rest[0], _format_left_out(len(rest) - 1 + self.left_out)])) <= most:
            parts.append(rest.pop(0))
        if left := _format_left_out(len(rest) + self.left_out):
            parts.append(left)
        return "\n\n".join(parts)[:most]

    @property
    def data(self) -> dict[str, Any]:
        """Return the whole message for programs, as plain JSON."""
        fields = {name: getattr(self, name) for name in ("id", "at", "relay", "host", "test", "title", "text")}
        alarms = [{name: getattr(one, name) for name in Alarm.__slots__} for one in self.alarms]
        return fields | {"alarms": alarms, "left_out": self.left_out}


def _format_left_out(number: int) -> str:
    return f"and {number} more: relay alerts show" if number else ""


PHRASES: Final = MappingProxyType(
    {
        "parked": ("events parked", "no events parked any more"),
        "expired": ("events expired", "no events expired any more"),
        "damaged": ("events damaged", "no events damaged any more"),
        "journal doubt": ("not as the database knows it", "as the database knows it"),
        "clock doubt": ("ahead of what can be right", "right again"),
        "database_failing": ("the database cannot be written", "the database can be written again"),
        "reload_refused": ("reload refused", "reload no longer refused"),
    }
)
"""How a headline has the kinds that are no word for the subject, some by the subject: while they last, and when they
are over."""


def _format_headline(one: Alarm) -> str:
    if one.kind == TEST:
        return "a test"
    what, over = _find_phrases(one.kind, one.subject)
    lasts = f"{what}, was {_find_phrases(one.was, one.subject)[0]}" if one.was else f"still {what}"
    how = {"began": what, "lasts": lasts, "flaps": f"{what}, comes and goes"}
    return f"{one.subject}: {how.get(one.state, over)}"


def _find_phrases(kind: str, subject: str) -> tuple[str, str]:
    first = subject.split()[0]
    what = kind.removeprefix(f"{first}_").replace("_", " ")
    return PHRASES.get(kind) or PHRASES.get(f"{first} {kind}") or (what, f"no longer {what}")


def _format_paragraph(one: Alarm) -> str:
    """Format an alarm for people, in lines."""
    if one.kind == TEST:
        return one.sentence
    since = "trouble since" if one.was else "since"  # it began as the kind that it was
    lines = [f"{_format_headline(one)}, {since} {_format_time(one.since)}", one.sentence, one.changed]
    facts = one.facts  # show those that the sentence leaves out
    error = facts.get("last_error")
    if error and str(error.get("reason")) not in one.sentence:
        when = f" at {_format_time(error['at'])}" if "at" in error else ""
        lines.append(f"last error: {error.get('reason')}{when}")
    if event := facts.get("event"):
        lines.append(f"one of the events: {event.get('type')} {event.get('id')}")
    if full := facts.get("full_at"):
        lines.append(f"the journal is full at {_format_time(full)} if it goes on like this")
    if (deadline := facts.get("deadline")) and _format_time(deadline) not in one.sentence:
        lines.append(f"Braze disables the Current at {_format_time(deadline)}, after 5 days of errors")
    return "\n".join(line for line in lines if line)


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


class Alert(Plugin):
    """A named way to tell people what is wrong. Subclass it with a type name, and write `send`."""

    Settings: ClassVar[type[Settings]] = AlertSettings
    _noun: ClassVar[str] = "alert"

    def __init_subclass__(cls, type: str = "", **options: Any) -> None:
        super().__init_subclass__(type=type, **options)
        if type and (cls.send is Alert.send or not iscoroutinefunction(cls.send)):
            raise TypeError(f"alert type {type}: {cls.__name__} needs a method `async def send(self, message)`")

    def __init__(self, name: str, settings: AlertSettings) -> None:
        self.name = name
        self.settings: Any = settings

    @cached_property
    def http(self) -> "aiohttp.ClientSession":
        """Return the alert's own HTTP session, without cookies.

        With `HttpAlertSettings` it uses their certificates and proxy.
        """
        from relay.api.transport.http import make_session

        return make_session(CONNECTIONS, self.settings.timeout, self.run_blocking, self.settings)

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run work that blocks in the alert's own thread, and return its result."""
        return await self._threads.run(work, *arguments)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Send a request. Return a 2xx answer; raise `Retry`, `Reject` or `Unauthorized` for all others.

        Reasons name the host, never the URL's path or query. Redirects are not followed.
        """
        from relay.api.transport.http import AnswerLimits, send

        return await send(self.http, "POST", url, body, headers, {}, AnswerLimits())

    async def send(self, message: Message) -> None:
        """Send a message. It may take `timeout` seconds, and may be cancelled at any await.

        If it raises, relay tries again for a day, with longer and longer waits. `Retry(after=...)` gives the least
        number of seconds. The `id` of a message stays the same.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Release everything, after the last message."""

    async def release(self) -> None:
        """Close the alert, its HTTP session and its thread. relay calls it; override `close` instead."""
        await release(vars(self), self.close, lambda: self.log.error("alert is not closed: its thread hangs"))
