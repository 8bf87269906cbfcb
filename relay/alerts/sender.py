"""One alert: its memory, and its messages on their way.

Failure and recovery: the memory and its messages are saved in one transaction before anything is sent; the result of a
message is saved after it was sent. A crash in between sends that one message once more, with the same id. A message
that cannot be sent is tried again with growing backoff; older messages go first. After GIVE_UP_S it is given up. If the
database cannot be written, all of this goes on in memory.
"""

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from relay.alerts.compose import ALARMS_AT_MOST, make_alarms, make_present_alarms
from relay.alerts.schedule import AlertRules, Key, Memory, Track, make_key, take_step
from relay.api import Alarm, Alert, Message, Reject, Retry
from relay.api.transport import outage
from relay.config import Redaction
from relay.guests import Late, call_guest, find_reason, run_limited
from relay.status import AlertStatus, Condition, LastAlert, Status
from relay.stop import STOP, count_seconds_left
from relay.store import MESSAGES_KEPT, AlertMessage, StoredAlerts, Tracks, Unavailable
from relay.threads import ADMIN

LONGEST_ASKED_S: Final = 3600.0
"""The longest wait that a destination can ask for."""
GIVE_UP_S: Final = 86400.0
WAITING: Final = 100
"""Messages that wait to be sent, at most: beyond that the oldest is given up."""
log = structlog.stdlib.get_logger()


class SendTimes(Struct, frozen=True):
    """The times of an alert, in seconds."""

    first_wait: float = 1.0
    """The wait after the first failure. Each further wait is twice as long."""
    longest_wait: float = 300.0
    settle: float = 60.0
    """Conditions from before a start count as over only after this time, or after a return: lanes have to try first."""
    close: float = 5.0
    """The longest wait for a save or for `close` at a stop."""
    margin: float = 5.0
    """The time beyond `timeout` after which a test counts as unanswered."""


class Sender:
    """Sends the messages of one alert, one after the other."""

    def __init__(
        self,
        alert: Alert,
        file: str,
        relay: str,
        host: str,
        stored: StoredAlerts,
        tracks: Tracks,
        known: Iterable[AlertMessage],
        times: SendTimes,
    ) -> None:
        """`file`: the file of its configuration. `relay`: the name of this relay. `tracks` and `known` come from the
        database."""
        self._alert, self._file, self._relay, self._host, self._stored = alert, file, relay, host, stored
        self._times = times
        self._rules = AlertRules.make(alert.settings)
        self._log = log.bind(alert=alert.name)
        self._clean = Redaction(alert.settings).clean
        self._memory: Memory = {Key(*key): msgspec.json.decode(track, type=Track) for key, track in tracks.items()}
        self._messages = {one.id: one for one in known}
        self._began, self._unsettled = time.monotonic(), {key for key, track in self._memory.items() if track.wrong}
        self._news = asyncio.Event()
        self._wait, self._not_before = self._times.first_wait, 0.0
        self._tests: dict[str, asyncio.Future[AlertMessage]] = {}
        self._sent = self._failed = self._given_up = 0
        # A restart or a reload ends no failure: take its start from the messages
        sent = max((one.sent for one in self._messages.values() if one.sent is not None), default=0.0)
        failed = (one for one in self._messages.values() if one.sent is None and one.last is not None)
        self._failing = min((one.made for one in failed if (one.last or 0.0) > sent), default=None)
        self._unsaved = False
        self._saving = asyncio.Lock()

    @property
    def kept(self) -> tuple[Tracks, list[AlertMessage]]:
        """What a successor of the same alert needs."""
        return _encode_tracks(self._memory), [*self._messages.values()]

    async def check_conditions(self, conditions: Sequence[Condition], status: Status) -> None:
        """Check the conditions, and queue what is to be reported."""
        mine = self._select_own(conditions)
        is_settled = time.monotonic() - self._began >= self._times.settle
        self._unsettled = set() if is_settled else self._unsettled - {make_key(one) for one in mine}
        memory, due = take_step(self._memory, mine, status.now, self._rules, unsettled=self._unsettled)
        if memory == self._memory and not due:
            return
        self._memory = memory
        made = [self._make_message(make_alarms(due, status, self._rules))] if due else []
        await self._save(partial(self._stored.save_tracks, self._alert.name, _encode_tracks(memory), made))
        self._messages |= {one.id: one for one in made}
        self._news.set()

    def _select_own(self, conditions: Iterable[Condition]) -> list[Condition]:
        """Those that it can tell: that it sends nothing is for others to tell."""
        return [one for one in conditions if one.subject != f"alert {self._alert.name}"]

    def _make_message(self, alarms: Sequence[Alarm], *, test: bool = False) -> AlertMessage:
        """Make a message of these alarms."""
        now, number = time.time(), uuid.uuid4().hex
        shown, left_out = tuple(alarms[:ALARMS_AT_MOST]), max(0, len(alarms) - ALARMS_AT_MOST)
        message = Message(
            id=number, at=now, relay=self._relay, host=self._host, alarms=shown, left_out=left_out, test=test
        )
        return AlertMessage(number, self._alert.name, now, msgspec.json.encode(message).decode())

    async def test(self) -> AlertMessage:
        """Send a test; return its message."""
        sentence = f"This is a test of [alert.{self._alert.name}]. Nothing need be wrong."
        alarm = Alarm(kind="test", subject="relay", state="began", sentence=sentence, since=time.time())
        made = self._make_message([alarm], test=True)
        await self._save(partial(self._stored.save_message, made))
        self._tests[made.id] = asyncio.get_running_loop().create_future()
        self._messages[made.id], self._not_before = made, 0.0
        self._news.set()
        try:
            async with asyncio.timeout(self._alert.settings.timeout + self._times.margin):
                return await self._tests[made.id]
        except TimeoutError:
            raise OSError("it is not known yet whether it was sent: see relay alerts list") from None
        finally:
            del self._tests[made.id]

    def preview(self, conditions: Sequence[Condition], status: Status) -> Message:
        """Return the message about everything that is wrong, whether it has lasted or not."""
        alarms = make_present_alarms(self._rules.select(self._select_own(conditions)), status)
        left_out = max(0, len(alarms) - ALARMS_AT_MOST)
        return Message(
            id="",
            at=status.now,
            relay=self._relay,
            host=self._host,
            alarms=tuple(alarms[:ALARMS_AT_MOST]),
            left_out=left_out,
        )

    @property
    def status(self) -> AlertStatus:
        """How it is."""
        tried = [one for one in self._messages.values() if one.last is not None]
        last = max(tried, key=lambda one: one.last or 0.0, default=None)
        return AlertStatus(
            alert=self._alert.name,
            type=self._alert.settings.type,
            file=self._file,
            told=sorted({f"{key.subject}: {track.kind}" for key, track in self._memory.items() if track.told}),
            waiting=len(self._list_waiting()),
            sent=self._sent,
            failed=self._failed,
            given_up=self._given_up,
            failing=self._failing,
            last=None
            if last is None
            else LastAlert(id=last.id, at=last.last or last.made, sent=last.sent is not None, problem=last.problem),
        )

    async def run(self) -> None:
        """Send queued messages until cancelled."""
        while True:
            self._news.clear()
            waiting = self._list_waiting()
            if waiting and time.monotonic() >= self._not_before:
                try:
                    await self._send_all(waiting)
                except Exception as bug:  # it costs time, and ends nothing
                    self._log.error("an alert cannot send", exc_info=bug)
                    self._not_before = time.monotonic() + self._times.longest_wait
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._not_before - time.monotonic() if waiting else None):
                    await self._news.wait()

    def _list_waiting(self) -> list[AlertMessage]:
        """Return the queued messages: tests first, because somebody waits for them, then the oldest."""
        waiting = [one for one in self._messages.values() if one.is_waiting]
        return sorted(waiting, key=lambda one: one.id not in self._tests)

    async def _send_all(self, waiting: Sequence[AlertMessage]) -> None:
        """Send them, the oldest first. A message that is refused for its content does not hold up the others."""
        wait: float | None = None
        for number, one in enumerate(waiting):
            if time.time() - one.made >= GIVE_UP_S or len(waiting) - number > WAITING:
                await self._note_outcome(replace(one, given_up=time.time()))
                continue
            error = await self._try_to_send(one)
            if error is None:
                continue
            asked = (error.after if isinstance(error, Retry) else None) or 0.0
            wait = max(wait or 0.0, self._wait, min(asked, LONGEST_ASKED_S))
            if not isinstance(error, Reject):
                break
        if wait is None:
            self._wait, self._not_before = self._times.first_wait, 0.0
        else:
            self._not_before = time.monotonic() + wait
            self._wait = min(2 * self._wait, self._times.longest_wait)

    async def _try_to_send(self, one: AlertMessage) -> Exception | None:
        """Try to send a message; return why that failed."""
        message = msgspec.json.decode(one.message, type=Message)
        tried = replace(one, attempts=one.attempts + 1)
        seconds = self._alert.settings.timeout
        try:
            await call_guest(partial(self._alert.send, message), "send", {"alert": self._alert.name}, seconds)
        except Exception as raised:  # whatever a plugin raises
            error, late = outage.find_outcome(raised) or raised, isinstance(raised, Late)
            problem = f"it was not sent within {seconds:g} s" if late else self._clean(find_reason(error))
            now = time.time()
            self._failing = self._failing or now
            self._failed += 1
            given_up = now if message.test else None  # whoever has asked for it hears of it, and asks again
            await self._note_outcome(replace(tried, last=now, problem=problem, given_up=given_up))
            return error
        self._failing = None
        now = time.time()
        await self._note_outcome(replace(tried, last=now, problem="", sent=now))
        return None

    async def _note_outcome(self, now: AlertMessage) -> None:
        """Note and log the result of a message."""
        self._messages[now.id] = now
        done = [one.id for one in self._messages.values() if not one.is_waiting]
        for old in done[:-MESSAGES_KEPT]:
            del self._messages[old]
        title = msgspec.json.decode(now.message, type=Message).title
        told = {"id": now.id, "title": title, "attempts": now.attempts}
        if now.sent is not None:
            self._sent += 1
            self._log.info("alert sent", **told)
        elif now.given_up is not None:
            self._given_up += 1
            self._log.error("alert given up", **told, reason=now.problem or "there were too many")
        else:
            self._log.warning("alert not sent, tried again", **told, reason=now.problem)
        if not now.is_waiting and (asked := self._tests.get(now.id)) and not asked.done():
            asked.set_result(now)
        await self._save(partial(self._stored.save_message, now))

    async def _save(self, save: "partial[None]") -> None:
        """Write to the database, one thing after the other, even if this is cancelled."""
        work = asyncio.get_running_loop().create_task(self._write(save), name=f"alert {self._alert.name}: save")
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work], timeout=count_seconds_left(STOP.kept, self._times.close))
            raise

    async def _write(self, save: "partial[None]") -> None:
        async with self._saving:
            try:
                await ADMIN.run(save)
            except Unavailable as error:
                if not self._unsaved and not error.is_logged:
                    advice = "after a restart some of it may be told again"
                    self._log.error("what an alert remembers cannot be saved", error=str(error), advice=advice)
                self._unsaved = True
            else:
                self._unsaved = False

    async def close(self) -> None:
        """Close its connections."""
        try:
            await run_limited(
                self._alert.release,
                count_seconds_left(STOP.kept, self._times.close),
                f"alert {self._alert.name}: close",
            )
        except Exception as error:  # a plugin's own
            self._log.warning("alert is not closed", reason=self._clean(find_reason(error)))


def _encode_tracks(memory: Memory) -> Tracks:
    """As JSON, without what destinations said: that may name a user who is to be erased, and is lost by a restart."""
    plain = {
        key: replace(track, said={name: value for name, value in track.said.items() if name != "reason"})
        for key, track in memory.items()
    }
    return {(key.subject, key.family): msgspec.json.encode(track).decode() for key, track in plain.items()}
