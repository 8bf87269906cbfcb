"""Writes the shortest `events` list that selects what is ticked. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Final

from relay.catalogue import NAMES, OPT_IN, TYPES, UNKNOWN, Selection, drop_opt_in, find_type

ALL: Final = "*"
GROUPS: Final = {
    "message_engagement": "Message engagement events",
    "customer_behavior": "Customer behavior events",
    "user": "User events",
}
"""The groups in Braze's words, in the order of lists and pages."""
CHANNELS: Final = {
    "contentcard": "Content Card",
    "featureflag": "Feature Flag",
    "inappmessage": "In-App Message",
    "landingpage": "Landing page",
    "line": "LINE",
    "liveactivity": "Live Activity",
    "liveactivity_token": "Live Activity token",
    "newsfeedcard": "News Feed Card",
    "pushnotification": "Push Notification",
    "rcs": "RCS",
    "sms": "SMS",
    "whatsapp": "WhatsApp",
}
"""The channels whose names in types lack a blank or a capital letter. The title of any other channel is its name."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A type; or, as `unknown`, all types that are not in the catalogue and not leaves of their own.

    `names`: the entries that select it. `group` and `channel`: "" for a type whose name says none.
    """

    name: str
    group: str
    channel: str
    status: str
    names: frozenset[str]


def list_leaves(accepted_types: Collection[str] = ()) -> list[Leaf]:
    """List the types of the catalogue, `unknown`, and the types besides that connectors ask for by name."""
    found = [Leaf(name, one.group, one.channel, one.status, frozenset({name, one.group, one.channel, ALL}))
             for name, one in TYPES.items()]  # fmt: skip
    found.append(Leaf(UNKNOWN, "", "", "current", frozenset({UNKNOWN, ALL})))
    for name in dict.fromkeys((*OPT_IN, *accepted_types)):
        if name in TYPES:
            continue
        said = find_type(name)
        lists = {said.group, said.channel} if said else set()
        if name in accepted_types or name not in OPT_IN:
            lists.add(ALL)
        group, channel = (said.group, said.channel) if said else ("", "")
        found.append(Leaf(name, group, channel, "current", frozenset({name, UNKNOWN, *lists})))
    return found


def write_entries(leaves: Sequence[Leaf], ticked: Collection[str], free: Sequence[str] = ()) -> list[str]:
    """Return the shortest list of groups, channels, types and exclusions that selects the ticked leaves.

    The entries of `free` are in the list as well. What they select or exclude is theirs, ticked or not. `!unknown` is
    no answer, as it would exclude the later types of every group too.
    """
    wish = _Wish.of(leaves, ticked, free)
    tree: dict[str, dict[str, list[Leaf]]] = {}
    for leaf in leaves:
        tree.setdefault(leaf.group, {}).setdefault(leaf.channel, []).append(leaf)
    shared = [one for one in {one.channel for one in leaves} if one and sum(one in tree[name] for name in tree) > 1]
    starts = [(), (ALL,), (UNKNOWN,)], *([(), (one,), (f"!{one}",)] for one in shared)
    plans = []
    for start in product(*starts):
        given = frozenset(chain(*start))
        parts = [_plan_group(group, channels, given, shared, wish) for group, channels in tree.items()]
        if (plan := _add_up([given, *parts])) is not None:
            plans.append(_join(plan, free))
    return min(plans, key=_weigh)


@dataclass(frozen=True, slots=True)
class _Wish:
    """The leaves that are wanted; those that the free entries select, and exclude."""

    wanted: Collection[str]
    given: Collection[str]
    excluded: Collection[str]

    @classmethod
    def of(cls, leaves: Sequence[Leaf], ticked: Collection[str], free: Sequence[str]) -> "_Wish":
        names = [leaf.name for leaf in leaves]
        positive = [one for one in free if not one.startswith("!")]
        negative = [one for one in free if one.startswith("!")]
        usual = [leaf.name for leaf in leaves if ALL in leaf.names]
        given = {*filter(Selection(drop_opt_in(positive, usual)).wants, names)} if positive else set()
        kept = {*filter(Selection(negative).wants, names)}
        return cls({*ticked} | given, given, {*names} - kept)


Plan = Collection[str] | None
"""Entries; None: there are none that would do."""


def _plan_group(
    group: str, channels: dict[str, list[Leaf]], given: frozenset[str], shared: Collection[str], wish: _Wish
) -> Plan:
    """Return the fewest entries for a group, beside those that are given."""
    plans = []
    for sign in _list_signs(group):
        context = given | sign
        parts = [
            _plan_channel("" if channel in shared else channel, leaves, context, wish)
            for channel, leaves in channels.items()
        ]
        plans.append(_add_up([sign, *parts]))
    return _choose(plans)


def _plan_channel(channel: str, leaves: Sequence[Leaf], given: frozenset[str], wish: _Wish) -> Plan:
    return _choose([_add_up([sign, _plan_leaves(leaves, given | sign, wish)]) for sign in _list_signs(channel)])


def _plan_leaves(leaves: Sequence[Leaf], given: frozenset[str], wish: _Wish) -> Plan:
    entries = []
    for leaf in leaves:
        if leaf.name in wish.excluded:
            continue
        is_selected = not given.isdisjoint(leaf.names)
        is_excluded = any(f"!{name}" in given for name in leaf.names)
        if leaf.name in wish.wanted:
            is_missing = not is_selected and leaf.name not in wish.given
            if is_excluded or (is_missing and leaf.name == UNKNOWN):  # it selects other leaves, so it is given or not
                return None
            if is_missing:
                entries.append(leaf.name)
        elif is_selected and not is_excluded:
            if leaf.name == UNKNOWN:
                return None
            entries.append(f"!{leaf.name}")
    return entries


def _list_signs(name: str) -> list[frozenset[str]]:
    """List what a list can say of a group or channel: nothing, or to select or exclude it."""
    signs: list[frozenset[str]] = [frozenset()]
    return [*signs, frozenset({name}), frozenset({f"!{name}"})] if name in NAMES and name not in TYPES else signs


def _add_up(parts: Sequence[Plan]) -> Plan:
    found = [part for part in parts if part is not None]
    return [*chain(*found)] if len(found) == len(parts) else None


def _choose(plans: Iterable[Plan]) -> Plan:
    return min((plan for plan in plans if plan is not None), key=_weigh, default=None)


def _weigh(entries: Collection[str]) -> tuple[int, int, int]:
    """Return what is smaller for a better list: short, then with few exclusions, then with groups before types."""
    return len(entries), sum(one.startswith("!") for one in entries), sum(map(_rank, entries))


def _rank(entry: str) -> int:
    name = entry.removeprefix("!")
    if name == ALL:
        return 0
    return 1 if name in GROUPS else 3 if "." in name or name == UNKNOWN else 2


def _join(own: Collection[str], free: Sequence[str]) -> list[str]:
    """Return one list, exclusions last, wide entries first. Of exclusions alone `*` is understood."""
    order = {name: number for number, name in enumerate((ALL, *GROUPS, *TYPES, UNKNOWN))}
    entries = sorted({*own} - {*free}, key=lambda one: (_rank(one), order.get(one.removeprefix("!"), 0), one))
    entries = [*dict.fromkeys([*entries, *free])]
    entries.sort(key=lambda one: one.startswith("!"))
    others = [one for one in entries if one != ALL]
    return others if ALL in own and others and all(one.startswith("!") for one in others) else entries
