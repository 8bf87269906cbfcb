"""Selections: the events that a connector wants, by group, channel, type and glob."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Final

from msgspec import Struct

from relay.api.internal import find_closest
from relay.catalogue.types import TYPES, find_type

TYPES_REMEMBERED: Final = 4096
"""Event types whose answer a selection keeps, so that a sender who invents types costs no more memory."""

OPT_IN: Final = ("cohort.Change",)
"""Types about many users at once, useful for few connectors. `*` does not include them."""

LISTS: Final = [
    name for name, _ in Counter(name for one in TYPES.values() for name in (one.group, one.channel)).most_common()
]
"""Groups and channels, those with the most types first."""
SHORTEST: Final = 3
"""Letters that suffice to tell a name."""

UNKNOWN: Final = "unknown"
"""The entry for all types that are not in the catalogue."""

NAMES: Final = sorted({*TYPES, UNKNOWN, *(t.group for t in TYPES.values()), *(t.channel for t in TYPES.values())})


class Unmatched(Struct, frozen=True):
    """An entry that matches no catalogued type, and the name that was perhaps meant."""

    entry: str
    suggestion: str | None


class Selection:
    """Which event types are wanted.

    An entry is a group (`message_engagement`), a channel (`email`), an exact type, or a glob over the type
    (`users.behaviors.*`; case matters); a leading `!` excludes. A type is wanted if a positive entry matches it and no
    `!` entry does; a list of `!` entries only starts from everything.

    A type that is not in the catalogue belongs to the group and channel that its name says, if it says any:
    `users.messages.*` does, types of your own and those from before mid-2021 without the `users.` prefix do not. The
    entry `unknown` means every type that is not in the catalogue, so that `!unknown` takes known types only.
    Of what another selection wants, one `within` it wants no more than that.
    """

    def __init__(self, entries: Sequence[str], within: "Selection | None" = None) -> None:
        self._within = within
        negative = [entry for entry in entries if entry.startswith("!")]
        positive = [entry for entry in entries if not entry.startswith("!")] or ["*"]
        self._entries = negative + positive
        self._named: dict[str, int] = {}
        """The number of each entry that is no glob, for a fast look-up."""
        self._globs: list[tuple[int, Callable[[str], object]]] = []
        for number, entry in enumerate(self._entries):
            name = entry.removeprefix("!")
            if any(char in name for char in "*?["):
                self._globs.append((number, re.compile(translate(name)).match))
            else:
                self._named.setdefault(name, number)
        self._has_lists = any("." not in name for name in self._named)
        """Whether an entry may be a group or channel."""
        self._remembered: dict[str, bool] = {}

    def wants(self, type: str) -> bool:
        """Return whether events of this type are wanted."""
        wanted = self._remembered.get(type)
        if wanted is None:
            if len(self._remembered) >= TYPES_REMEMBERED:
                self._remembered.clear()
            decided = self.explain(type)
            wanted = self._remembered[type] = decided is not None and not decided.startswith("!")
        return wanted

    def explain(self, type: str) -> str | None:
        """Return the entry that decides over this type; None if none matches, so that it is not wanted."""
        if self._within is not None and not self._within.wants(type):
            return self._within.explain(type)
        first = self._named.get(type, len(self._entries))
        if self._has_lists:
            lists = set[str]() if type in TYPES else {UNKNOWN}
            if said := find_type(type):
                lists |= {said.group, said.channel}
            first = min([first, *(self._named[name] for name in lists & self._named.keys())])
        for number, matches in self._globs:
            if number < first and matches(type):
                first = number
                break
        return self._entries[first] if first < len(self._entries) else None

    def warnings(self) -> list[Unmatched]:
        """List the entries that match nothing known. A type may be newer than the catalogue."""
        globs = [self._entries[number] for number, matches in self._globs if not any(map(matches, TYPES))]
        names = [self._entries[number] for name, number in self._named.items() if name not in NAMES]
        return [Unmatched(entry, suggest_entry(entry.removeprefix("!"))) for entry in (*globs, *names)]


def drop_opt_in(entries: Sequence[str], accepted_types: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a connector's entries without the types in OPT_IN.

    Types stay that an entry names, with a glob other than `*`, or that the connector's `accepted_types` have.
    """
    naming = [entry for entry in entries if entry != "*" and not entry.startswith("!")]
    asked = {*accepted_types, *filter(Selection(naming).wants, OPT_IN if naming else ())}
    return (*entries, *(f"!{one}" for one in OPT_IN if one not in asked))


def suggest_entry(word: str) -> str | None:
    """Return what was perhaps meant by a word that matches no type.

    The group or channel with the most types whose name holds it (`push`), else the closest name, else the types that
    end in it (`bounce`).
    """
    looked_for = re.sub(r"[\W_]", "", word.lower())
    holding = [name for name in LISTS if looked_for in name.replace("_", "")]
    if holding and len(looked_for) >= SHORTEST:
        return holding[0]
    if close := find_closest(word, NAMES):
        return close
    ends = [name for name in TYPES if name.rpartition(".")[2].lower() == looked_for]
    return f"*.{ends[0].rpartition('.')[2]}" if len(ends) > 1 else next(iter(ends), None)
