"""The journal: appends events durably, reads them from an offset, and removes what nobody needs."""

from relay.journal.clock import DAY_S, Clock
from relay.journal.end_marker import read_end, write_end
from relay.journal.identity import ANY, KnownJournal, OtherJournal, describe_mismatch, read_identity, write_identity
from relay.journal.journal import Journal, TooLarge, Unavailable
from relay.journal.lock import LOCK, is_locked, lock, read_holder
from relay.journal.outside.inspected import Condition, Inspected, inspect_all
from relay.journal.outside.repair import Repair, plan_repair, repair
from relay.journal.outside.view import JournalView
from relay.journal.record import HEADER, encode_lost_record, find_records
from relay.journal.recovery import BEHIND_ALL
from relay.journal.retention import JournalLimits
from relay.journal.rewrite import find_copies, find_more_ids, plan_rewrite, rewrite
from relay.journal.segment import (
    DAMAGED,
    FRESH,
    PREFIX,
    READ_BYTES,
    SUFFIX,
    Corrupt,
    Segment,
    SegmentReader,
    copy_segment,
    find_end,
    list_segment_files,
    parse_base,
    put_in_place,
    read_salt,
    read_written,
    replace_text,
    sync_folder,
    write_anew,
)
from relay.journal.users import LISTS, NOBODY, Erased, Wanted, find_user, merge_users

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
    "Condition",
    "Corrupt",
    "Erased",
    "Inspected",
    "Journal",
    "JournalLimits",
    "JournalView",
    "KnownJournal",
    "OtherJournal",
    "Repair",
    "Segment",
    "SegmentReader",
    "TooLarge",
    "Unavailable",
    "Wanted",
    "copy_segment",
    "describe_mismatch",
    "encode_lost_record",
    "find_copies",
    "find_end",
    "find_more_ids",
    "find_records",
    "find_user",
    "inspect_all",
    "is_locked",
    "list_segment_files",
    "lock",
    "merge_users",
    "parse_base",
    "plan_repair",
    "plan_rewrite",
    "put_in_place",
    "read_end",
    "read_holder",
    "read_identity",
    "read_salt",
    "read_written",
    "repair",
    "replace_text",
    "rewrite",
    "sync_folder",
    "write_anew",
    "write_end",
    "write_identity",
]
