"""Names and members of cohorts as Braze was told, in the store of the connector.

How it fails and recovers: relay writes the store after Braze took a change. After a crash between the two, relay sends
the change again, which alters nothing in Braze: members are a set. relay saves the users of a request before it sends
the request, for an erasure that comes between the two.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple
from zlib import crc32

from relay.api import KeyValueStore
from relay_plugins.braze_cohorts.change import Change, Member, Portion, make_slug
from relay_plugins.braze_cohorts.crowded import count_crowded
from relay_plugins.braze_cohorts.keys import (
    ASKED,
    COHORT,
    END,
    MEMBER,
    PART,
    RESENT,
    SLUG,
    TOLD,
    CohortRecord,
    SyncPart,
    encode_offset,
    make_key,
    make_member_keys,
    make_part_pair,
    make_prefix,
    make_record_pair,
    read_member_key,
    read_part,
    read_record,
    split_key,
)

PAGE: Final = 2000
"""Keys to read at a time."""
SAVED: Final = 50_000
"""Members of whom Braze was told, after which relay saves how far it has come."""
TRACES: Final = (MEMBER, TOLD, ASKED)
"""The tables that name users."""


class CohortPlan(NamedTuple):
    """The part of a change that Braze was not told yet."""

    introduce: bool
    """Whether to send the name: the cohort or its name is new, or relay sends everything again."""
    name: str
    """Name of the cohort from now on; empty: its id."""
    created: float
    add: Sequence[Member]
    """New members. With `resend` relay sends the others as well: see `list_untold`."""
    remove: Sequence[Member]
    known: Mapping[bytes, bytes]
    """Members among the users of the change, as they are in the store."""


class CohortStore:
    """What one connector has told Braze. All methods raise StoreError.

    A method that changes a record reads the record first. So one such method runs at a time.
    """

    def __init__(self, store: KeyValueStore, target: str) -> None:
        """`target` names the Braze to which the connector sends, and how the connector sends."""
        self._store, self._target = store, target
        self._changing = asyncio.Lock()
        self.before: Final = -1 - crc32(target.encode())
        """An offset before all events. Another target has another offset."""

    async def count_elsewhere(self) -> int:
        """Count the cohorts that were sent to another Braze, or in another way."""
        return sum([record.target not in (None, self._target) async for _, record in self._scan_records()])

    async def is_elsewhere(self, cohort: str) -> bool:
        """Return whether a cohort was sent to another Braze, or in another way."""
        return (await self._read_record(cohort)).target not in (None, self._target)

    async def forget_kind(self, cohort: str, kind: str) -> int:
        """Forget the ids of one kind in a cohort; return their number."""
        forgotten = 0
        async with self._changing:
            record = await self._read_record(cohort)
            async for page in self._scan(make_prefix(MEMBER, cohort, kind)):
                forgotten += len(page)
                record.members -= len(page)
                await self._store.write(make_record_pair(cohort, record), [key for key, _ in page])
        return forgotten

    async def find_slug(self, cohort: str, name: str) -> str:
        """Return the cohort's part of its attribute's name. The first call makes the part from a name.

        Of two cohorts with the same name the second has its id in the part as well.
        """
        async with self._changing:
            record = await self._read_record(cohort)
            if not record.slug:
                slug = make_slug(name or record.name or "") or make_slug(cohort)
                taken = await self._store.get([make_key(SLUG, slug)])
                record.slug = f"{slug}_{cohort}" if taken or not slug else slug
                await self._store.write(
                    make_record_pair(cohort, record) | {make_key(SLUG, record.slug): cohort.encode()}
                )
        return record.slug

    async def count_crowded(self, most: int) -> int:
        """Count the users who are in more than `most` cohorts."""
        cohorts = [cohort async for cohort, record in self._scan_records() if record.name is not None]
        prefixes = [make_prefix(MEMBER, cohort) for cohort in cohorts]
        return await count_crowded(self._store, prefixes, most) if len(cohorts) > most else 0

    async def save_target(self, cohort: str) -> None:
        """Save that this Braze has all known members of a cohort."""
        async with self._changing:
            record = await self._read_record(cohort)
            record.target = self._target
            await self._forget_told(cohort, record)

    async def plan(self, change: Change) -> CohortPlan:
        """Return the part of a change that Braze was not told yet."""
        cohort, offset = change.cohort, encode_offset(change.offset)
        keys, removed = make_member_keys(MEMBER, cohort, change.add), make_member_keys(TOLD, cohort, change.remove)
        record, found = await self._load(cohort, [*keys, *removed])
        name, created = record.name, time.time() if record.name is None else record.created
        add = [member for key, member in keys.items() if key not in found]
        remove = [member for key, member in removed.items() if found.get(key) != offset]
        introduce = (
            name is None or change.name not in ("", name) or (change.resend and not await self._was_told(change))
        )
        known = {key: found[key] for key in keys if key in found}
        return CohortPlan(introduce, change.name or name or "", created, add, remove, known)

    async def save_name(self, change: Change, created: float) -> None:
        """Save the name of a cohort that Braze has taken. `created` is in Unix seconds."""
        async with self._changing:
            record = await self._read_record(change.cohort)
            if record.name is None:
                record.created = record.synced = created
            record.name, record.target = change.title, record.target or self._target
            await self._store.write(make_record_pair(change.cohort, record))

    async def save_sent(self, change: Change, portion: Portion) -> None:
        """Save a portion of a change that Braze has taken."""
        cohort, offset = change.cohort, encode_offset(change.offset)
        again = [*portion.remove, *(portion.add if change.resend else ())]  # newcomers are members, which `plan` knows
        newcomers = [*{*change.add}.intersection(portion.add)] if change.resend else portion.add
        added, removed = (make_member_keys(MEMBER, cohort, some) for some in (newcomers, portion.remove))
        async with self._changing:
            record, known = await self._load(cohort, [*added, *removed])
            fresh = added.keys() - known.keys()
            record.members += len(fresh) - len(removed.keys() & known.keys())
            puts = dict.fromkeys([*fresh, *make_member_keys(TOLD, cohort, again)], offset)
            puts |= make_record_pair(cohort, record)
            await self._store.write(puts, [*removed, *make_member_keys(ASKED, cohort, [*chain(*portion)])])

    async def save_errors(self, change: Change, errors: Sequence[str]) -> None:
        """Save the errors in the answer to a change; at least one error."""
        async with self._changing:
            record = await self._read_record(change.cohort)
            record.errors, record.last_error = record.errors + len(errors), errors[0]
            await self._store.write(make_record_pair(change.cohort, record))

    async def finish_change(self, change: Change, known: Mapping[bytes, bytes]) -> int | None:
        """Save that all users of a change are sent. `known`: who was a member before, from the plan. If the change
        completes a full sync, return the offset of the first part of the sync; else None."""
        offset = encode_offset(change.offset)
        puts = {key: offset for key, before in known.items() if before < offset}
        if change.full:
            part = SyncPart(change.task, change.page, change.part, change.parts, change.offset)
            puts |= [make_part_pair(change.cohort, part)]
        if puts:
            await self._store.write(puts)
        if not change.full:
            return None
        pages = self._scan(make_prefix(PART, change.cohort, change.task))
        found = [read_part(value) async for page in pages for _, value in page]
        needed = {part.page: part.parts for part in found}
        if len(needed) < change.pages or len(found) < sum(needed.values()):
            return None
        return min(part.offset for part in found)

    async def list_leavers(self, cohort: str, start: int, size: int) -> AsyncIterator[Sequence[Member]]:
        """Yield the members that no event from an offset on has named, `size` at a time. They may be forgotten
        meanwhile."""
        waiting, offset = list[Member](), encode_offset(start)
        async for page in self._scan(make_prefix(MEMBER, cohort)):
            waiting += [read_member_key(key) for key, value in page if value < offset]
            while len(waiting) >= size:
                yield waiting[:size]
                del waiting[:size]
        yield waiting

    async def list_untold(self, change: Change, first: int, size: int) -> AsyncIterator[Sequence[Member]]:
        """Yield the members of a cohort of whom Braze was not told during a change: `first` members, then `size` at a
        time. Ask for the next ones after `save_sent`: now and then that saves the place for the next delivery."""
        cohort, offset, place = change.cohort, encode_offset(change.offset), make_key(RESENT, change.cohort)
        saved = (await self._store.get([place])).get(place, b"")
        waiting, passed = list[Member](), 0
        async for page in self._scan(make_prefix(MEMBER, cohort), saved[8:] if saved.startswith(offset) else b""):
            members = [read_member_key(key) for key, _ in page]
            told = await self._find(TOLD, cohort, members)
            waiting += [member for member in members if told.get(member) != offset]
            passed += len(page)
            done = b"" if waiting else page[-1][0]
            while len(waiting) >= first:
                yield waiting[:first]
                done = make_key(MEMBER, cohort, *waiting[first - 1])
                del waiting[:first]
                first = size
            if done and passed >= SAVED:
                await self._store.write({place: offset + done})
                passed = 0
        yield waiting

    async def mark_synced(self, change: Change, *, complete: bool, left_out: int) -> None:
        """Save the time of a finished change, and how many users relay left out. `complete`: forget the parts of the
        full sync and of syncs before it."""
        cohort, over = change.cohort, list[bytes]()
        async with self._changing:
            record = await self._read_record(cohort)
            record.synced, record.task, record.left_out = time.time(), change.task, record.left_out + left_out
            if complete:
                pages = self._scan(make_prefix(PART, cohort))
                parts = {key: read_part(value) async for page in pages for key, value in page}
                start = min(part.offset for part in parts.values() if part.task == change.task)
                over = [key for key, part in parts.items() if part.task == change.task or part.offset < start]
            await self._forget_told(cohort, record, over)

    async def save_asked(self, cohort: str, members: Sequence[Member]) -> Sequence[Member]:
        """Save the users that a request is about to add: Braze may have them even if its answer never comes. Return the
        users that no earlier request saved."""
        target = self._target.encode()
        async with self._changing:
            keys = make_member_keys(ASKED, cohort, members)
            asked = await self._store.get(keys)
            fresh = {key: member for key, member in keys.items() if asked.get(key) != target}
            if fresh:
                await self._store.write(dict.fromkeys(fresh, target))
        return [*fresh.values()]

    async def forget_asked(self, cohort: str, members: Sequence[Member]) -> None:
        """Forget users of a request, because its answer has come."""
        await self._store.write(deletes=make_member_keys(ASKED, cohort, members))

    async def find_cohorts(self, members: Sequence[Member]) -> Mapping[str, Sequence[Member]]:
        """Return the cohorts with a trace of the users, and their users."""
        found = defaultdict[str, list[Member]](list)
        async for cohort, record in self._scan_records():
            for member, _ in await self._find_traces(cohort, record, members):
                found[cohort].append(member)
        return found

    async def find_inside(self, cohort: str, members: Sequence[Member]) -> Sequence[Member]:
        """Return the users that this Braze may have in a cohort."""
        traces = await self._find_traces(cohort, await self._read_record(cohort), members)
        return [member for member, is_here in traces if is_here]

    async def list_kinds(self) -> set[str]:
        """Return the kinds of the ids of all members: `alias` for all aliases."""
        kinds, after = set[str](), b""
        while page := await self._store.scan(make_prefix(MEMBER), after=after, limit=1):
            _, cohort, kind, _ = split_key(page[0][0])
            kinds.add(kind.partition(":")[0])
            after = make_prefix(MEMBER, cohort, kind) + END
        return kinds

    async def forget(self, cohort: str, members: Sequence[Member]) -> None:
        """Forget every trace of users in a cohort."""
        async with self._changing:
            record = await self._read_record(cohort)
            record.members -= len(await self._find(MEMBER, cohort, members))
            traces = [key for table in TRACES for key in make_member_keys(table, cohort, members)]
            await self._store.write(make_record_pair(cohort, record), [make_key(RESENT, cohort), *traces])

    async def clean(self) -> None:
        """Remove forgotten users from the files, and Braze's last error, which may name them. Raises StoreError as well
        while another process reads the files; then call it again."""
        async with self._changing:
            told = {cohort: record async for cohort, record in self._scan_records() if record.last_error}
            for cohort, record in told.items():
                record.last_error = ""
                await self._store.write(make_record_pair(cohort, record))
        await self._store.purge()

    async def _was_told(self, change: Change) -> bool:
        """Return whether Braze was told of some user during a change."""
        offset = encode_offset(change.offset)
        async for page in self._scan(make_prefix(TOLD, change.cohort)):
            if any(value == offset for _, value in page):
                return True
        return False

    async def _forget_told(self, cohort: str, record: CohortRecord, over: Sequence[bytes] = ()) -> None:
        """Save the record, and forget whom Braze was told of during the change, and the keys in `over`."""
        puts, deletes = make_record_pair(cohort, record), [make_key(RESENT, cohort), *over]
        async for page in self._scan(make_prefix(TOLD, cohort)):
            await self._store.write(puts, [*deletes, *(key for key, _ in page)])
            puts, deletes = {}, []
        if puts:
            await self._store.write(puts, deletes)

    async def _find_traces(
        self, cohort: str, record: CohortRecord, members: Sequence[Member]
    ) -> list[tuple[Member, bool]]:
        """Return users with a trace in a cohort, and whether this Braze may have the user there. Another Braze may have
        a part of them."""
        if record.target is None:
            return []
        inside, told, asked = [await self._find(table, cohort, members) for table in TRACES]
        before, target = encode_offset(self.before), self._target
        return [
            (
                member,
                (member in inside and record.target == target)
                or told.get(member) == before
                or asked.get(member) == target.encode(),
            )
            for member in members
            if member in inside or member in told or member in asked
        ]

    async def _find(self, table: str, cohort: str, members: Sequence[Member]) -> dict[Member, bytes]:
        """Return the members of a cohort that are in a table, with their values."""
        keys = make_member_keys(table, cohort, members)
        return {keys[key]: value for key, value in (await self._store.get(keys)).items()}

    async def _read_record(self, cohort: str) -> CohortRecord:
        return (await self._load(cohort, ()))[0]

    async def _load(self, cohort: str, keys: Iterable[bytes]) -> tuple[CohortRecord, dict[bytes, bytes]]:
        """Return the record of a cohort, and the values of other keys."""
        key = make_key(COHORT, cohort)
        found = await self._store.get([key, *keys])
        value = found.pop(key, None)
        return (read_record(value) if value else CohortRecord()), found

    async def _scan_records(self) -> AsyncIterator[tuple[str, CohortRecord]]:
        async for page in self._scan(make_prefix(COHORT)):
            for key, value in page:
                yield split_key(key)[1], read_record(value)

    async def _scan(self, prefix: bytes, after: bytes = b"") -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """Yield the pairs of a prefix behind a key, page by page. The pairs of a page may be deleted before the next
        one."""
        while page := await self._store.scan(prefix, after=after, limit=PAGE):
            yield page
            after = page[-1][0]
