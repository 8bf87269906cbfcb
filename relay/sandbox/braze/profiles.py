"""The users of a stand-in of Braze, its cohorts, and the segments that campaigns are sent to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Profile:
    """A user of Braze. A user without external id and alias is anonymous."""

    external_id: str | None = None
    aliases: frozenset[tuple[str, str]] = frozenset()
    """Pairs of label and name."""
    devices: frozenset[str] = frozenset()
    email: str | None = None

    @property
    def is_anonymous(self) -> bool:
        """Return whether only devices of the user are known."""
        return self.external_id is None and not self.aliases

    @property
    def name(self) -> str:
        """Return the external id, or else an alias, or else a device."""
        alias = next((f"{label}:{name}" for label, name in sorted(self.aliases)), None)
        return self.external_id or alias or min(self.devices, default="nobody")


@dataclass(frozen=True, slots=True)
class Audience:
    """A segment by cohorts: users in all cohorts of `includes` and in none of `excludes`. Cohorts are ids or names."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


@dataclass(slots=True)
class Profiles:
    """All users, with an index for each kind of id, and the members of the cohorts."""

    all: list[Profile] = field(default_factory=list)
    members: defaultdict[str, set[Profile]] = field(default_factory=lambda: defaultdict(set))
    """Members by the id of the cohort."""
    names: dict[str, str] = field(default_factory=dict)
    """The latest name by the id of the cohort."""
    _external: dict[str, Profile] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], Profile] = field(default_factory=dict)
    _devices: dict[str, Profile] = field(default_factory=dict)
    _emails: dict[str, Profile] = field(default_factory=dict)

    def add(self, profiles: Iterable[Profile]) -> None:
        """Add users."""
        for profile in profiles:
            self.all.append(profile)
            self._external.update({profile.external_id: profile} if profile.external_id else {})
            self._aliases.update(dict.fromkeys(profile.aliases, profile))
            self._devices.update(dict.fromkeys(profile.devices, profile))
            self._emails.update({profile.email: profile} if profile.email else {})

    def find_by_device(self, device: str) -> Profile | None:
        """Return the anonymous user of a device; devices of identified users are ignored."""
        found = self._devices.get(device)
        return found if found and found.is_anonymous else None

    def find_by_alias(self, alias: Mapping[str, Any]) -> Profile | None:
        """Return the user with an alias: `alias_label` and `alias_name`."""
        return self._aliases.get((alias["alias_label"], alias["alias_name"]))

    def find_by_external_id(self, external_id: str) -> Profile | None:
        """Return the user with an external id."""
        return self._external.get(external_id)

    def find_by_email(self, email: str) -> Profile | None:
        """Return the user with an e-mail address."""
        return self._emails.get(email)

    def find_by_anything(self, user: str | Mapping[str, Any]) -> Profile | None:
        """Return the user with an external id, a device or an alias: Braze documents all three for `user_ids`."""
        if isinstance(user, str):
            return self.find_by_external_id(user) or self.find_by_device(user)
        return self.find_by_alias(user)

    def find_audience(self, segment: Audience) -> set[Profile]:
        """Return the users of a segment."""
        found = set(self.all)
        for cohort in segment.includes:
            found &= self.find_members(cohort)
        for cohort in segment.excludes:
            found -= self.find_members(cohort)
        return found

    def find_members(self, cohort: str) -> set[Profile]:
        """Return the members of a cohort, by its id or its name."""
        named = [self.members[number] for number, name in self.names.items() if name == cohort]
        return set().union(self.members.get(cohort, set()), *named)
