"""What comes of a draft: the mistakes, the diff, what relay says, and the launch.

The browser posts the whole form each time. `seen` in it says which files the last answer was about: who launches has
seen exactly what is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from aiohttp import web

from relay.client import ClientError
from relay.config import Mistake
from relay.console.edits.conf import digest
from relay.console.edits.diff import FileDiff, compare_files
from relay.console.edits.draft import Draft
from relay.console.edits.own_process import check_alone
from relay.console.relay_view import NotRunning
from relay.console.security.rights import Right
from relay.console.visit import Visit
from relay.proposal import EventSample, Probe, Proposal, ProposalAnswer
from relay.threads import ADMIN

CHECK_S: Final = 100.0
"""Seconds for relay's answer: relay gives up itself a little earlier."""
AFTER: Final = ""
"""Stands in `seen` for the files as they would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What is shown of a draft, below its form."""

    draft: Draft
    status: int = 200
    """The HTTP status of the page."""
    notice: str = ""
    """A sentence above all else, such as what has changed meanwhile."""
    mistakes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Sentences by field of the form."""
    others: Sequence[str] = ()
    """Mistakes that are at no field, such as those of other files."""
    warnings: Sequence[str] = ()
    changes: Sequence[str] = ()
    """What a reload would say."""
    unchecked: str = ""
    """Why nothing was checked, or not everything."""
    probe: Probe | None = None
    sample: EventSample | None = None
    diffs: Sequence[FileDiff] = ()
    seen: str = ""
    """What the form sends to launch exactly this; "": it cannot be launched."""
    folder: Path
    """The folder of the files."""
    barred: str = ""
    """Why this user launches nothing here; the page has the text and the commands in place of the button."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with the draft."""
        return not (self.mistakes or self.others)


async def consider(visit: Visit, draft: Draft) -> Considered | web.Response:
    """Check a draft, or launch it if the form says so. Every edit page calls this for its POST.

    Users who may not launch get the diff alone: relay opens no file and no URL for them.
    """
    view = draft.view
    found = Considered(draft=draft, folder=view.target, mistakes=draft.mistakes)
    found = replace(found, barred=await ADMIN.run(_find_bar, visit, draft))
    if draft.mistakes:
        return replace(found, status=422)
    found = replace(found, diffs=compare_files(view.texts, draft.files))
    if not found.diffs or visit.right is None or visit.right < Right.CONFIGURE:
        return found
    found = await _check(visit, found)
    return replace(found, seen="" if found.barred or not found.is_good else write_seen(draft))


def _find_bar(visit: Visit, draft: Draft) -> str:
    """Return why a user launches nothing here; "" if the user may."""
    view = draft.view
    if visit.right is None or visit.right < Right.CONFIGURE:
        return f"to launch takes the right to {Right.CONFIGURE}"
    if not (view.launch or visit.console.options.launch):
        return "the console may only look at the configuration: console.launch is false"
    return ""


def write_seen(draft: Draft) -> str:
    """Return which files the draft is about: as they would be, and all files of conf.d as they are."""
    after = digest(repr(sorted(draft.files.items())))
    return urlencode({AFTER: after, **draft.view.stamps})


def find_changed(seen: str, draft: Draft) -> list[str]:
    """Return the files that are others than those in `seen`."""
    before, now = dict(parse_qsl(seen, keep_blank_values=True)), draft.view.stamps
    return sorted(path for path in {*before, *now} - {AFTER} if before.get(path) != now.get(path))


async def _check(visit: Visit, found: Considered) -> Considered:
    """Add what relay says of a draft, or what a process of its own says where no relay runs."""
    draft = found.draft
    proposal = Proposal(files=draft.files, probe=draft.connector, sample=draft.connector)
    try:
        said = await visit.request_relay("POST", "/check", proposal, timeout=CHECK_S)
        answer = msgspec.json.decode(said, type=ProposalAnswer)
    except NotRunning:
        try:
            alone = await check_alone(visit.console.options, replace(proposal, probe=None, sample=None))
        except OSError as error:
            return replace(found, others=[f"it cannot be checked: {error}"])
        found = replace(found, unchecked="no relay runs: destinations and the events of the last hour are not tried")
        return _add_mistakes(found, alone.mistakes, alone.warnings)
    except ClientError as error:
        return replace(found, others=[f"it cannot be checked: {error}"])
    found = replace(found, changes=answer.changes, probe=answer.probe, sample=answer.sample)
    return _add_mistakes(found, answer.mistakes, answer.warnings)


def _add_mistakes(found: Considered, mistakes: Sequence[Mistake], warnings: Sequence[Mistake]) -> Considered:
    """Add mistakes, those of the form at their fields."""
    by_field: dict[str, list[str]] = {}
    others: list[str] = []
    for one in mistakes:
        if (name := found.draft.name_field(one)) is None:
            others.append(str(one))
        else:
            meant = f" (did you mean {one.suggestion}?)" if one.suggestion else ""
            by_field.setdefault(name, []).append(one.reason + meant)
    status = 422 if mistakes else 200
    return replace(found, status=status, mistakes=by_field, others=others, warnings=[*map(str, warnings)])
