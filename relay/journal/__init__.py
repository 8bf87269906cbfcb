"""The journal: appends events durably, reads them from an offset, and removes what nobody needs."""

from relay.journal.compression import Compressor, Unsupported
from relay.journal.damage import Lost
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
from relay.journal.live.group_appender import GroupAppender
from relay.journal.live.group_commit import Group
from relay.journal.live.subscribers import Subscribers
from relay.journal.live.tail import Tail
from relay.journal.live.tail_reader import READ_BYTES, TailReader
from relay.journal.lock import LOCK, is_locked, lock, read_holder
from relay.journal.outside.inspected import Inspected, inspect_all
from relay.journal.outside.repair import Repair, plan_repair, repair
from relay.journal.outside.view import JournalView
from relay.journal.record import (
    HEADER,
    StoredRecord,
    compute_crc,
    decode_parts,
    encode_lost_record,
    encode_meta,
    encode_stored,
    find_records,
    is_form,
)
from relay.journal.recovery import BEHIND_ALL
from relay.journal.retention import choose_expendable, choose_segment_size
from relay.journal.rewrite import REST, RewritePlan
from relay.journal.seen_ids import forget_seen, make_id_digest, read_seen, write_seen
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
    "REST",
    "SUFFIX",
    "Compressor",
    "Corrupt",
    "Group",
    "GroupAppender",
    "Inspected",
    "Journal",
    "JournalView",
    "KnownJournal",
    "Lost",
    "OtherJournal",
    "Repair",
    "RewritePlan",
    "Segment",
    "SegmentReader",
    "StoredRecord",
    "Subscribers",
    "Tail",
    "TailReader",
    "Unsupported",
    "choose_expendable",
    "choose_segment_size",
    "compute_crc",
    "copy_segment",
    "decode_parts",
    "describe_mismatch",
    "encode_lost_record",
    "encode_meta",
    "encode_stored",
    "find_end",
    "find_journal_end",
    "find_records",
    "forget_seen",
    "inspect_all",
    "is_form",
    "is_locked",
    "list_segment_files",
    "lock",
    "make_empty_journal",
    "make_id_digest",
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
