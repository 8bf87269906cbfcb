"""What comes of a draft: the mistakes, the diff, what relay says, and the launch.

The browser posts the whole form each time. `seen` in it says which files the last answer was about: who launches has
seen exactly what is written.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from aiohttp import web
from msgspec import structs

from relay.client import ClientError
from relay.config import Mistake, format_path, hide_in_text, is_file_name
from relay.console.edits.conf import ConfView, digest
from relay.console.edits.diff import DiffLine, FileDiff, compare_files, show_example
from relay.console.edits.draft import Draft
from relay.console.edits.launch import NotLaunched, find_relay, launch
from relay.console.edits.own_process import check_alone
from relay.console.edits.permission import find_bar
from relay.console.edits.record import IN_FORCE
from relay.console.edits.secrets import find_new_secrets, parse
from relay.console.relay_view import NotRunning
from relay.console.security.rights import Right
from relay.console.visit import Visit
from relay.proposal import EventSample, Example, Probe, Proposal, ProposalAnswer
from relay.threads import ADMIN

CHECK_S: Final = 100.0
"""Seconds for relay's answer: relay gives up itself a little earlier."""
OWN_TABLE: Final = "console"
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
    doubts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Warnings by field of the form."""
    warnings: Sequence[str] = ()
    """Warnings that are at no field."""
    changes: Sequence[str] = ()
    """What a reload would say."""
    unchecked: str = ""
    """Why nothing was checked, or not everything."""
    probe: Probe | None = None
    sample: EventSample | None = None
    examples: Sequence[tuple[Example, Sequence[DiffLine]]] = ()
    """The examples of the sample, each with its lines."""
    diffs: Sequence[FileDiff] = ()
    seen: str = ""
    """What the form sends to launch exactly this; "": it cannot be launched."""
    folder: Path
    """The folder of the files."""
    barred: str = ""
    """Why this user launches nothing here."""
    shows_texts: bool = False
    """Whether the page has the texts and the commands in place of the button."""
    commands: Sequence[str] = ()
    emptied: Collection[str] = ()
    """Fields that held a secret in plain text. The page shows them empty."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with the draft."""
        return not (self.mistakes or self.others)

    @property
    def texts(self) -> Mapping[str, str]:
        """The files as they would be, to be copied."""
        return {name: hide_in_text(text) for name, text in self.draft.files.items() if text is not None}


async def consider(visit: Visit, draft: Draft) -> Considered | web.Response:
    """Check a draft, or launch it if the form says so. Every edit page calls this for its POST.

    Users who may not launch get the diff alone: relay opens no file and no URL for them.
    """
    found = await ADMIN.run(_compare, visit, draft)
    if visit.right is None or visit.right < Right.CONFIGURE:
        return found
    if draft.mistakes:
        return await _find_more(visit, found) if draft.files and not found.emptied else found
    if not found.diffs:
        return found
    if visit.form.get("act") == "launch" and not found.barred:
        return await _launch(visit, found, visit.form.get("seen", ""))
    return await _check(visit, found)


def _compare(visit: Visit, draft: Draft) -> Considered:
    """Find what the console says itself of a draft: its diffs, or why it has none. Blocking."""
    view = draft.view
    barred = find_bar(visit, view)
    found = Considered(draft=draft, folder=view.target, barred=barred, commands=_list_commands(visit, view))
    refused = [*_find_refused(draft)]
    emptied = {name for name in map(draft.name_field, refused) if name is not None}
    if draft.mistakes:
        more, _ = _sort_by_field(draft, refused)
        return replace(found, status=422, mistakes={**more, **draft.mistakes}, emptied=emptied)
    if refused:
        return replace(_add_mistakes(found, refused), emptied=emptied)
    return replace(found, diffs=compare_files(view.texts, draft.files), shows_texts=barred != "")


def _find_refused(draft: Draft) -> Iterator[Mistake]:
    """Find what the console writes for nobody: files elsewhere, files of persons, its own rights, plain secrets."""
    view = draft.view
    for name, text in draft.files.items():
        if not is_file_name(name):
            yield Mistake(reason="a file is named like 60-heap.toml or 60-heap.toml.d/50-more.toml")
        elif name not in view.texts and (there := view.find_files(name)):
            yield Mistake(file=name, reason=f"{there[0]} is there already, and the console has not written it")
        elif text is not None:
            if OWN_TABLE in (parse(text) or {}):
                reason = f"the console cannot set this itself: write [{OWN_TABLE}] into a file of your own"
                yield Mistake(file=name, key=OWN_TABLE, reason=reason)
            for path, _, reason in find_new_secrets(text, view.texts.get(name)):
                yield Mistake(file=name, key=format_path(path), reason=reason)


def _list_commands(visit: Visit, view: ConfView) -> Sequence[str]:
    """Return the commands with which an admin does without the console."""
    folders, state = view.folders, visit.console.options.state
    conf = f" --conf {view.target}" if folders.console is None else ""
    return [f"relay check{conf} --state {state}", f"relay reload --state {state}"]


async def _launch(visit: Visit, found: Considered, seen: str) -> Considered | web.Response:
    """Launch a draft if it is what the user has seen; else check it again."""
    draft = found.draft
    if changed := [*find_changed(seen, draft)] if seen else []:
        notice = f"Meanwhile somebody has changed {', '.join(changed)}. Nothing is launched: look at this first"
        return replace(await _check(visit, found), status=409, notice=notice)
    if seen != write_seen(draft):
        why = "The form has changed since it was checked. " if seen else ""
        return replace(await _check(visit, found), notice=f"{why}Nothing is launched yet: look at this first")
    try:
        runs = await find_relay(visit, draft.view.folders)
        if not runs and not (checked := await _check(visit, found)).is_good:
            return checked
        done = await launch(visit, draft, runs=runs)
    except NotLaunched as error:
        shows_texts = error.status == HTTPStatus.INSUFFICIENT_STORAGE
        found = _add_mistakes(found, error.mistakes)
        return replace(found, status=error.status, notice=str(error), shows_texts=shows_texts)
    is_in_force = done.result == IN_FORCE
    page = f"{draft.done}?launched={done.number}" if draft.done and is_in_force else f"/launches/{done.number}"
    return visit.go(page)


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
            alone = await check_alone(visit.console.options, structs.replace(proposal, probe=None, sample=None))
        except OSError as error:
            return replace(found, others=[f"it cannot be checked: {error}"])
        found = replace(found, unchecked="no relay runs: destinations and the events of the last hour are not tried")
        return _offer(_add_mistakes(found, alone.mistakes, alone.warnings))
    except ClientError as error:
        return replace(found, others=[f"it cannot be checked: {error}"])
    examples = [(one, await ADMIN.run(show_example, one)) for one in (answer.sample.examples if answer.sample else ())]
    found = replace(found, changes=answer.changes, probe=answer.probe, sample=answer.sample, examples=examples)
    return _offer(_add_mistakes(found, answer.mistakes, answer.warnings))


async def _find_more(visit: Visit, found: Considered) -> Considered:
    """Add what relay says of the other fields of a form with mistakes, so that somebody sees all of them at once.

    Settings may seem to contradict each other because one of them cannot be read.
    """
    draft = found.draft
    proposal = Proposal(files=draft.files)
    try:
        said = await visit.request_relay("POST", "/check", proposal, timeout=CHECK_S)
        mistakes = msgspec.json.decode(said, type=ProposalAnswer).mistakes
    except NotRunning:
        mistakes = (await check_alone(visit.console.options, proposal)).mistakes
    except ClientError:
        return found
    more, _ = _sort_by_field(draft, [one for one in mistakes if not (draft.is_partial and one.about)])
    return replace(
        found, mistakes={**found.mistakes, **{name: more[name] for name in more if name not in found.mistakes}}
    )


def _offer(found: Considered) -> Considered:
    """Offer to launch what is good."""
    return replace(found, seen=write_seen(found.draft)) if found.is_good and not found.barred else found


def _add_mistakes(found: Considered, mistakes: Sequence[Mistake], warnings: Sequence[Mistake] = ()) -> Considered:
    """Add mistakes and warnings, those of the form at their fields."""
    at_fields, others = _sort_by_field(found.draft, mistakes)
    doubts, more = _sort_by_field(found.draft, warnings)
    status = 422 if mistakes else 200
    return replace(found, status=status, mistakes=at_fields, others=others, doubts=doubts, warnings=more)


def _sort_by_field(draft: Draft, mistakes: Sequence[Mistake]) -> tuple[Mapping[str, Sequence[str]], Sequence[str]]:
    """Return sentences by field of the form, and those about no field."""
    by_field: dict[str, list[str]] = {}
    others: list[str] = []
    for one in mistakes:
        name = draft.name_field(one)
        meant = f" (did you mean {one.suggestion}?)" if one.suggestion else ""
        said = str(one) if name is None or draft.is_text else one.reason + meant
        (others if name is None else by_field.setdefault(name, [])).append(said)
    return by_field, others
