"""The journal: appends events durably, reads them from an offset, and removes what nobody needs."""

from relay.journal.end_marker import read_end, write_end
from relay.journal.identity import (
    ANY,
    KnownJournal,
    OtherJournal,
    describe_mismatch,
    find_journal_end,
    make_empty_journal,
    read_identity,
    write_identity,
)
from relay.journal.journal import Journal
from relay.journal.live.tail_reader import READ_BYTES
from relay.journal.lock import LOCK, is_locked, lock, read_holder
from relay.journal.outside.inspected import Inspected, inspect_all
from relay.journal.outside.repair import Repair, plan_repair, repair
from relay.journal.outside.view import JournalView
from relay.journal.record import HEADER, StoredRecord, encode_lost_record, encode_stored, find_records
from relay.journal.recovery import BEHIND_ALL
from relay.journal.seen_ids import forget_seen, read_seen, write_seen
from relay.journal.segment import (
    DAMAGED,
    FRESH,
    PREFIX,
    SUFFIX,
    Corrupt,
    Segment,
    SegmentReader,
    copy_segment,
    find_end,
    list_segment_files,
    make_path,
    mark_compressed,
    parse_base,
    put_in_place,
    read_salt,
    read_stored,
    read_written,
    replace_text,
    sync_folder,
    write_anew,
)

__all__ = [
    "ANY",
    "BEHIND_ALL",
    "DAMAGED",
    "FRESH",
    "HEADER",
    "LOCK",
    "PREFIX",
    "READ_BYTES",
    "SUFFIX",
    "Corrupt",
    "Inspected",
    "Journal",
    "JournalView",
    "KnownJournal",
    "OtherJournal",
    "Repair",
    "Segment",
    "SegmentReader",
    "StoredRecord",
    "copy_segment",
    "describe_mismatch",
    "encode_lost_record",
    "encode_stored",
    "find_end",
    "find_journal_end",
    "find_records",
    "forget_seen",
    "inspect_all",
    "is_locked",
    "list_segment_files",
    "lock",
    "make_empty_journal",
    "make_path",
    "mark_compressed",
    "parse_base",
    "plan_repair",
    "put_in_place",
    "read_end",
    "read_holder",
    "read_identity",
    "read_salt",
    "read_seen",
    "read_stored",
    "read_written",
    "repair",
    "replace_text",
    "sync_folder",
    "write_anew",
    "write_end",
    "write_identity",
    "write_seen",
]
