"""The users of a stand-in of Braze, its cohorts, and the segments that campaigns are sent to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Profile:
    """A user of Braze. One without external id and alias is anonymous."""

    external_id: str | None = None
    aliases: frozenset[tuple[str, str]] = frozenset()
    """Labels and names."""
    devices: frozenset[str] = frozenset()
    email: str | None = None

    @property
    def anonymous(self) -> bool:
        """Whether only devices are known."""
        return self.external_id is None and not self.aliases

    @property
    def name(self) -> str:
        """The external id, or an alias, or a device."""
        alias = next((f"{label}:{name}" for label, name in sorted(self.aliases)), None)
        return self.external_id or alias or min(self.devices, default="nobody")


@dataclass(frozen=True, slots=True)
class Audience:
    """A segment with cohort filters: who is in all of `includes` and none of `excludes`, ids or names of cohorts."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


@dataclass(slots=True)
class Profiles:
    """Who there is, findable by everything that names a user, and who is in which cohort."""

    all: list[Profile] = field(default_factory=list)
    members: defaultdict[str, set[Profile]] = field(default_factory=lambda: defaultdict(set))
    """Of each cohort, by its id."""
    names: dict[str, str] = field(default_factory=dict)
    """Of each cohort that was given one, the latest."""
    _external: dict[str, Profile] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], Profile] = field(default_factory=dict)
    _devices: dict[str, Profile] = field(default_factory=dict)
    _emails: dict[str, Profile] = field(default_factory=dict)

    def add(self, profiles: Iterable[Profile]) -> None:
        """Let there be more users."""
        for one in profiles:
            self.all.append(one)
            self._external.update({one.external_id: one} if one.external_id else {})
            self._aliases.update(dict.fromkeys(one.aliases, one))
            self._devices.update(dict.fromkeys(one.devices, one))
            self._emails.update({one.email: one} if one.email else {})

    def by_device(self, device: str) -> Profile | None:
        """An anonymous user; devices of identified users are ignored."""
        found = self._devices.get(device)
        return found if found and found.anonymous else None

    def by_alias(self, alias: Mapping[str, Any]) -> Profile | None:
        """By `alias_label` and `alias_name`."""
        return self._aliases.get((alias["alias_label"], alias["alias_name"]))

    def by_external_id(self, external_id: str) -> Profile | None:
        """By external id."""
        return self._external.get(external_id)

    def by_email(self, email: str) -> Profile | None:
        """By e-mail address, for attributes."""
        return self._emails.get(email)

    def by_anything(self, user: str | Mapping[str, Any]) -> Profile | None:
        """By external id, else as a device, or by an alias: Braze's documentation allows all of them in `user_ids`."""
        return (self.by_external_id(user) or self.by_device(user)) if isinstance(user, str) else self.by_alias(user)

    def audience(self, segment: Audience) -> set[Profile]:
        """Who is in a segment."""
        found = set(self.all)
        for cohort in segment.includes:
            found &= self.inside(cohort)
        for cohort in segment.excludes:
            found -= self.inside(cohort)
        return found

    def inside(self, cohort: str) -> set[Profile]:
        """Who is in a cohort, by its id or its name."""
        named = [self.members[number] for number, name in self.names.items() if name == cohort]
        return set().union(self.members.get(cohort, set()), *named)
