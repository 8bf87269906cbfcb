"""The journal and nothing else: appends events durably, reads them from an offset, drops what nobody needs."""

from relay.journal.clock import DAY_S, Clock
from relay.journal.damage import Damage, united
from relay.journal.end_marker import read_end, write_end
from relay.journal.identity import ANY, KnownJournal, OtherJournal, mismatch, read_identity, write_identity
from relay.journal.journal import Journal, TooLarge, Unavailable
from relay.journal.lock import LOCK, holder, is_locked, lock
from relay.journal.record import HEADER, lost_record, whole_records
from relay.journal.recovery import BEHIND_ALL
from relay.journal.retention import JournalLimits
from relay.journal.rewrite import copies_of, more_ids, plan, rewrite
from relay.journal.segment import (
    DAMAGED,
    FRESH,
    PREFIX,
    READ_BYTES,
    SUFFIX,
    Corrupt,
    Segment,
    SegmentReader,
    base_of,
    copy_of,
    find_end,
    put_in_place,
    read_salt,
    replace_text,
    segment_files,
    sync_folder,
    write_anew,
)
from relay.journal.users import LISTS, NOBODY, Erased, Wanted, merged_users, user_of

__all__ = [
    "ANY",
    "BEHIND_ALL",
    "DAMAGED",
    "DAY_S",
    "FRESH",
    "HEADER",
    "LISTS",
    "LOCK",
    "NOBODY",
    "PREFIX",
    "READ_BYTES",
    "SUFFIX",
    "Clock",
    "Corrupt",
    "Damage",
    "Erased",
    "Journal",
    "JournalLimits",
    "KnownJournal",
    "OtherJournal",
    "Segment",
    "SegmentReader",
    "TooLarge",
    "Unavailable",
    "Wanted",
    "base_of",
    "copies_of",
    "copy_of",
    "find_end",
    "holder",
    "is_locked",
    "lock",
    "lost_record",
    "merged_users",
    "mismatch",
    "more_ids",
    "plan",
    "put_in_place",
    "read_end",
    "read_identity",
    "read_salt",
    "replace_text",
    "rewrite",
    "segment_files",
    "sync_folder",
    "united",
    "user_of",
    "whole_records",
    "write_anew",
    "write_end",
    "write_identity",
]
