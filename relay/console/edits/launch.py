"""Launches a draft: writes its files, has relay reload, and takes the files back if relay refuses them.

One launch at a time: the server has a launch take its turn (`Console.take_turn`) before the page reads conf.d, and a
lock in the state folder keeps out other consoles. How it fails, and what is true then:

- Before anything is written: conf.d is other than the draft was made from, relay does not answer, the folder or the
  disk is full. Nothing has changed.
- Relay refuses the reload: the old configuration was in force all the time, and the old files are back to the byte.
  Relay then reloads once more: its status names no refused reload, and what somebody else has reloaded meanwhile goes.
- Relay is gone, or does not answer the reload: the files stay. They passed the check, so the next start or reload takes
  them. To take them back could put away what relay has just read.
- No relay runs: the files passed a check of our own, and count from the next start.
- The console is killed: each file is whole, old or new. The record of the launch has no result, and *undo* brings back
  its files. Names with a dot in front are left over; the next launch of the same file removes them.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from os.path import realpath
from typing import Any, Final

import msgspec
import structlog

from relay.client import ClientError, Gone, NoAnswer
from relay.config import ConfFolders, Mistake
from relay.console.edits.conf import ConfView
from relay.console.edits.draft import Draft
from relay.console.edits.record import IN_FORCE, WAITS, Launch, Launches, LaunchUnderWay
from relay.console.edits.secrets import remove_unused
from relay.console.edits.write import WrittenFiles
from relay.console.relay_view import NotRunning
from relay.console.visit import Visit
from relay.threads import ADMIN
from relay.words import describe_error

RELOAD_S: Final = 120.0
"""Seconds for a reload. Relay may wait for connectors to close."""
log = structlog.stdlib.get_logger()


class NotLaunched(Exception):
    """Raised when a draft is not in force. Its text says why, and what is on disk now."""

    def __init__(self, reason: str, status: int = 409, *, mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(reason)
        self.status, self.mistakes = status, mistakes


@dataclass(frozen=True, slots=True)
class _Written:
    launch: Launch
    files: WrittenFiles


@dataclass(frozen=True, slots=True)
class _Reloaded:
    """What relay answers to a reload."""

    ok: bool
    said: Sequence[str]
    mistakes: Sequence[Mistake]
    at: float = 0.0
    """The time of its entry in the history."""


async def launch(visit: Visit, draft: Draft, *, runs: bool) -> Launch:
    """Launch a draft that was checked. `runs`: as `find_relay` says. Raises NotLaunched."""
    delivered = await _count_delivered(visit, draft.connector) if runs and draft.connector else 0
    begun = Launch(
        at=time.time(),
        by=visit.user,
        subject=draft.subject,
        folder=str(draft.view.target),
        before={name: draft.view.texts.get(name) for name in draft.files},
        after=draft.files,
        connector=draft.connector,
        delivered=delivered or 0,
        undoes=draft.undoes,
    )
    launches = Launches(visit.console.options.state)
    async with _lock(launches):
        written = await ADMIN.run(_write, launches, draft, begun)
        result = await _reload(visit, launches, written) if runs else _explain_wait(written.launch, "no relay runs")
        if delivered is None and result.result == IN_FORCE:
            result = replace(result, delivered=await _count_delivered(visit, draft.connector) or 0)
        await ADMIN.run(_settle, visit, launches, replace(written, launch=result))
    told = {"user": result.by, "subject": result.subject, "files": [*result.after], "result": result.result}
    log.info("console launch", launch=result.number, folder=result.folder, **told)
    visit.console.relay.forget()
    return result


async def _count_delivered(visit: Visit, connector: str | None) -> int | None:
    """Return how many events a connector has delivered; None for a connector that ran once: relay knows it later."""
    visit.console.relay.forget()
    seen = (await visit.console.relay.read()).status
    if seen is None:
        return 0
    counts = [one.outcomes.get("delivered", 0) for one in seen.lanes if one.connector == connector]
    return sum(counts) if counts or all(one.connector != connector for one in seen.gone) else None


@asynccontextmanager
async def _lock(launches: Launches) -> AsyncIterator[None]:
    locked = launches.lock()
    try:
        await ADMIN.run(locked.__enter__)
    except LaunchUnderWay as error:
        raise NotLaunched(str(error)) from None
    except OSError as error:
        raise NotLaunched(f"{describe_error(error)}: nothing is written", 507) from None
    try:
        yield
    finally:
        locked.__exit__(None, None, None)


async def find_relay(visit: Visit, folders: ConfFolders) -> bool:
    """Return whether relay runs. Raises NotLaunched if relay does not answer, or reads other folders."""
    try:
        answer = msgspec.json.decode(await visit.request_relay("GET", "/config"))
    except NotRunning:
        return False
    except ClientError as error:
        raise NotLaunched(f"{error}: nothing is written", 503) from None
    if not await ADMIN.run(_are_same, folders, answer["folders"]):
        theirs, ours = ", ".join(answer["folders"]), ", ".join(map(str, folders.in_order))
        raise NotLaunched(f"relay reads {theirs}, and this console {ours}: start both with the same --conf")
    return True


def _are_same(ours: ConfFolders, theirs: Sequence[str]) -> bool:
    """Return whether relay reads these folders, too. It may not have noticed yet that the console's folder counts."""
    console = None if ours.console is None else realpath(ours.console)
    return [*map(realpath, ours.others)] == [one for one in map(realpath, theirs) if one != console]


def _write(launches: Launches, draft: Draft, begun: Launch) -> _Written:
    """Note the launch, and write its files. Raises NotLaunched, and nothing has changed then."""
    view = draft.view
    if ConfView.read(view.folders).stamps != view.stamps:
        raise NotLaunched("conf.d has changed at this moment, and nothing is written: check again")
    for name in draft.files:
        if name not in view.texts and (view.target / name).exists():
            raise NotLaunched(f"a person wrote {view.target / name}, and nothing is written")
    noted = None
    try:
        noted = launches.add(begun)
        return _Written(noted, WrittenFiles.write(view.target, draft.files))
    except OSError as error:
        with suppress(OSError):
            if noted:
                launches.forget(noted)
        raise NotLaunched(f"{describe_error(error)}: nothing is written", 507) from None


async def _reload(visit: Visit, launches: Launches, written: _Written) -> Launch:
    """Have relay reload. Raises NotLaunched after the files were taken back."""
    try:
        said = await visit.request_relay("POST", "/reload", timeout=RELOAD_S)
        answer = msgspec.json.decode(said, type=_Reloaded)
    except (Gone, NoAnswer, NotRunning) as error:
        return _explain_wait(written.launch, str(error))
    except ClientError as error:
        answer = _Reloaded(ok=False, said=(), mistakes=[Mistake(reason=str(error))])
    if answer.ok:
        return replace(written.launch, result=IN_FORCE, said=answer.said, noted=answer.at)
    changed = await ADMIN.run(_take_back, launches, written)
    with suppress(ClientError):  # relay goes on as it was, and has no refused reload in its status any more
        await visit.request_relay("POST", "/reload", timeout=RELOAD_S)
    reason = "relay refuses it, and goes on with the configuration it had. What was written is taken back"
    if changed:
        reason += f"; but somebody has changed {', '.join(changed)} meanwhile, which stays"
    if other := await _find_others_in_force(visit, written.launch):
        reason = f"relay refuses it now, but a reload of somebody else has just put {other} into force: reload again"
    raise NotLaunched(reason, mistakes=answer.mistakes)


async def _find_others_in_force(visit: Visit, launch: Launch) -> str:
    """Return the files that relay has in force otherwise than they are on disk after they were taken back."""
    with suppress(ClientError):
        answer: dict[str, Any] = msgspec.json.decode(await visit.request_relay("GET", "/config"))
        names = {*launch.after, *(f"{launch.folder}/{name}" for name in launch.after)}
        return ", ".join(name for name in answer["changed"] if name in names)
    return ""


def _take_back(launches: Launches, written: _Written) -> Sequence[str]:
    try:
        changed = written.files.take_back()
        launches.forget(written.launch)
    except OSError as error:
        files = ", ".join(written.launch.after)
        raise NotLaunched(
            f"relay refuses it, and goes on with the configuration it had. What was written cannot be taken back:"
            f" {describe_error(error)}. Mend {files} in {written.launch.folder} before the next start of relay",
            507,
        ) from None
    return changed


def _explain_wait(launch: Launch, why: str) -> Launch:
    files = ", ".join(launch.after)
    said = f"{why}. What was written is {files} in {launch.folder}: it counts from the next start, or the next reload"
    return replace(launch, result=WAITS, said=[said])


def _settle(visit: Visit, launches: Launches, written: _Written) -> None:
    """Note the result, and remove what is not needed any more. What fails here leaves the launch as it is."""
    state = visit.console.options.state
    try:
        written.files.settle()
        launches.note(written.launch)
        remove_unused(state, ConfView.read(visit.console.options.folders))
    except OSError as error:
        log.warning("a launch could not be noted in full", launch=written.launch.number, reason=describe_error(error))
