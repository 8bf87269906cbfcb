"""Ticks of event types: what an `events` list says as ticks, and what a posted form says as a list. Pure.

A form has a box for all events, for each group, channel and type, and a text for all other entries. Whoever changes a
box changes all below it, but for those below that he changes as well. So the form works without a script: a browser
does not tick the boxes below by itself. The script does, and then says the same twice.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from relay.catalogue import NAMES, OPT_IN, Selection, drop_opt_in
from relay.console.forms.shortest import ALL, CHANNELS, GROUPS, Leaf, list_leaves, write_entries

PREFIX: Final = "events."
SHOWN: Final = f"{PREFIX}shown"
"""The input with the list that the boxes were made from."""
TEXT: Final = f"{PREFIX}text"
"""The input for globs, and types that are not in the catalogue: an entry a line."""
EVERYTHING: Final = f"{PREFIX}all"
AS_TOML: Final = ":toml"
"""The end of the name of an input with a value as in a file."""
EMPTY: Final = "[]"


@dataclass(frozen=True, slots=True)
class Tick:
    """A box. `entry`: what a list calls it. `decided_by`: the entry of the text that decides instead; "": none."""

    name: str
    entry: str
    is_ticked: bool
    decided_by: str = ""
    is_retired: bool = False
    is_apart: bool = False
    """Whether the box for all events leaves it out."""


@dataclass(frozen=True, slots=True)
class TickBranch:
    """A group or channel. `ticked`: how many types below are selected. `box` is None if it cannot be ticked."""

    title: str
    box: Tick | None
    branches: Sequence["TickBranch"]
    leaves: Sequence[Tick]
    ticked: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """What a page shows of an `events` list. `entries`: the list itself; None if it is left out."""

    entries: list[str] | None
    all: Tick
    groups: Sequence[TickBranch]
    others: Sequence[Tick]
    """Types that are not in the catalogue."""
    free: Sequence[str]
    """The entries that no box stands for."""
    selected: frozenset[str]
    """The leaves that the boxes select, whatever the free entries say."""
    accepted_types: Sequence[str]
    """The only types that can be ticked; empty: all."""

    @property
    def shown(self) -> str:
        """The list, for the form that is posted."""
        return msgspec.json.encode(self.entries).decode()

    def list_boxes(self) -> Iterator[Tick]:
        """Yield every box."""
        yield self.all
        yield from self.others
        for branch in (*self.groups, *(one for group in self.groups for one in group.branches)):
            yield from [branch.box] if branch.box else []
            yield from branch.leaves


def fill_ticks(entries: Sequence[str] | None, accepted_types: Sequence[str] = (), text: str = "") -> Ticks:
    """Return the ticks of a list; None: it is left out and selects everything. An empty list selects nothing.

    `text`: what the text field has besides, if the list is empty.
    """
    boxed, free = _split(("*",) if entries is None else entries)
    free = free or _read_lines(text)
    leaves = list_leaves(accepted_types)
    wants = Selection(drop_opt_in(boxed, accepted_types)).wants if boxed else lambda _: False
    selected = frozenset(leaf.name for leaf in leaves if wants(leaf.name))
    whole = Selection(drop_opt_in([*boxed, *free], accepted_types)) if boxed or free else None

    def make_tick(leaf: Leaf) -> Tick:
        is_selected = whole is not None and whole.wants(leaf.name)
        decided = (whole.explain(leaf.name) or "") if whole and is_selected != (leaf.name in selected) else ""
        return Tick(_name_leaf(leaf), leaf.name, is_selected, decided, leaf.status == "retired", ALL not in leaf.names)

    shown = [leaf for leaf in leaves if not accepted_types or leaf.name in accepted_types]
    ticks = {leaf: make_tick(leaf) for leaf in shown}

    def make_box(name: str, entry: str, below: Collection[Leaf], above: Collection[str]) -> Tick:
        own = [ticks[leaf] for leaf in below if not ticks[leaf].decided_by]
        is_full = bool(own) and all(one.is_ticked for one in own)
        return Tick(name, entry, is_full or _selects(boxed, entry, above))

    def make_channel(group: str, channel: str, below: Sequence[Leaf]) -> TickBranch:
        box = None if accepted_types else make_box(_name_channel(below[0]), channel, below, (group,))
        rows = [ticks[leaf] for leaf in sorted(below, key=lambda leaf: leaf.status == "retired")]
        title = CHANNELS.get(channel) or channel.replace("_", " ").capitalize()
        return TickBranch(title, box, (), rows, sum(one.is_ticked for one in rows), len(rows))

    def make_group(group: str, below: Sequence[Leaf]) -> TickBranch:
        box = None if accepted_types else make_box(_name_group(below[0]), group, below, ())
        found: dict[str, list[Leaf]] = {}
        for leaf in below:
            found.setdefault(leaf.channel, []).append(leaf)
        channels = [make_channel(group, channel, inner) for channel, inner in found.items()]
        channels.sort(key=lambda one: (all(leaf.is_retired for leaf in one.leaves), one.title.lower()))
        return TickBranch(GROUPS[group], box, channels, (), sum(one.ticked for one in channels), len(below))

    by_group = {group: [leaf for leaf in shown if leaf.group == group] for group in GROUPS}
    return Ticks(
        entries=None if entries is None else [*entries],
        all=make_box(EVERYTHING, ALL, [leaf for leaf in shown if ALL in leaf.names], ()),
        groups=[make_group(group, below) for group, below in by_group.items() if below],
        others=[ticks[leaf] for leaf in shown if leaf.group not in GROUPS],
        free=free,
        selected=selected,
        accepted_types=[*accepted_types],
    )


def put_ticks(form: Mapping[str, str], name: str, accepted_types: Sequence[str] = ()) -> Mapping[str, str]:
    """Return a posted form with the list under the field of this name, in place of the boxes.

    A form without boxes stays as it is.
    """
    if SHOWN not in form:
        return form
    entries = read_events(form, accepted_types)
    rest = {key: text for key, text in form.items() if not key.startswith(PREFIX)}
    return rest | ({f"{name}{AS_TOML}": EMPTY} if entries == [] else {name: "\n".join(entries or ())})


def is_unticked(form: Mapping[str, str], name: str) -> bool:
    """Return whether the list of a form from `put_ticks` selects nothing."""
    return form.get(f"{name}{AS_TOML}") == EMPTY


def show_ticks(
    shown: Mapping[str, str], name: str, accepted_types: Sequence[str] = (), *, text: str = "", is_new: bool = False
) -> Ticks | None:
    """Return the ticks for the field of this name; None if its text is no list.

    `text`: what was posted for other entries. `is_new`: nothing is ticked yet.
    """
    if is_new or is_unticked(shown, name):
        return fill_ticks([], accepted_types, text)
    if f"{name}{AS_TOML}" in shown:
        return None
    return fill_ticks(_read_lines(shown.get(name, "")) or None, accepted_types)


def read_events(form: Mapping[str, str], accepted_types: Sequence[str] = ()) -> list[str] | None:
    """Return the shortest `events` list for a posted form; None: leave it out. [] is a mistake: nothing is selected.

    A list that nobody has changed comes back as it was.
    """
    before = fill_ticks(_read_shown(form), accepted_types)
    boxes = {one.name: one for one in before.list_boxes() if not one.decided_by}
    changed = {name: name in form for name, one in boxes.items() if (name in form) != one.is_ticked}
    free = _read_lines(form.get(TEXT, ""))
    if not changed and free == [*dict.fromkeys(before.free)]:
        return before.entries

    def is_ticked(leaf: Leaf) -> bool:
        decided = next((name for name in _list_boxes_above(leaf) if name in changed), None)
        return leaf.name in before.selected if decided is None else changed[decided]

    leaves = list_leaves(accepted_types)
    ticked = [leaf.name for leaf in leaves if is_ticked(leaf)]
    is_empty = not ticked or (accepted_types and not {*ticked} & {*accepted_types})
    if is_empty and all(one.startswith("!") for one in free):
        # exclusions alone select all else: nobody means that who has taken away the last tick
        return [] if changed or "!" in free else free
    entries = write_entries(leaves, ticked, free)
    return None if entries == [ALL] else entries


def _split(entries: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the entries that boxes stand for, and the others.

    An exclusion is no box if a glob selects: the box of a type that the list does not name has nothing to take away.
    """
    known = [
        one for one in entries if one.removeprefix("!") in (*NAMES, *OPT_IN, ALL) and one not in ("!*", "!unknown")
    ]
    others = [one for one in entries if one not in known]
    if any(not one.startswith("!") for one in others):
        known = [one for one in known if not one.startswith("!")]
    elif known or others:
        known = known if any(not one.startswith("!") for one in known) else [ALL, *known]
    return known, [one for one in entries if one not in known]


def _selects(boxed: Sequence[str], entry: str, above: Collection[str]) -> bool:
    """Return whether the boxed entries select what a group or channel will have later."""
    names = {entry, *above}
    return not names.union({ALL}).isdisjoint(boxed) and not {f"!{name}" for name in names}.intersection(boxed)


def _list_boxes_above(leaf: Leaf) -> list[str]:
    """List the boxes that decide over a leaf, its own first."""
    lists = [_name_channel(leaf), _name_group(leaf)] if leaf.group in GROUPS else []
    return [_name_leaf(leaf), *lists, *([EVERYTHING] if ALL in leaf.names else [])]


def _name_leaf(leaf: Leaf) -> str:
    return f"{PREFIX}type.{leaf.name}"


def _name_channel(leaf: Leaf) -> str:
    return f"{PREFIX}channel.{leaf.group}.{leaf.channel}"


def _name_group(leaf: Leaf) -> str:
    return f"{PREFIX}group.{leaf.group}"


def _read_lines(text: str) -> list[str]:
    return [*dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())]


def _read_shown(form: Mapping[str, str]) -> list[str] | None:
    """Return the list that the boxes were made from; for a form that does not say, nothing was ticked."""
    try:
        return msgspec.json.decode(form.get(SHOWN, "[]"), type=list[str] | None)
    except msgspec.MsgspecError:
        return []
