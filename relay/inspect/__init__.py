"""Reads a state folder from outside. Only `restore` writes to it."""

from relay.inspect.audit import Audit, AuditRow, WholeAudit, audit, audit_all, merge_audits
from relay.inspect.backup import Backup, back_up
from relay.inspect.check import Check, WorkerCheck, check_all
from relay.inspect.databases import CheckedDatabase, check_databases, has_run
from relay.inspect.dump import PROBLEM, DumpPart, dump_all, encode_line, encode_problem
from relay.inspect.progress import INTERVAL_S, PROGRESS, UNTOLD, JournalProgress
from relay.inspect.receipts import Receipt, WorkerReceipt, list_receipts
from relay.inspect.repair import plan_repairs, repair_all
from relay.inspect.replay_count import USUAL_RATE, ReplayCount, Stretch, WorkerCount, count_all
from relay.inspect.restore import restore
from relay.inspect.search import Aside, Found, search_all
from relay.inspect.subprocess import NOT_THERE, Question, answer_question
from relay.inspect.trace import Resent, Trace, Traced, TracedConnector, TracePart, Tried, WorkerTrace, trace_all
from relay.inspect.type_counts import FoundCounts, JournalTypes, PartCount, TypeCount, merge_counts
from relay.inspect.user_search import Remains, find_remains
from relay.journal import Repair

__all__ = [
    "INTERVAL_S",
    "NOT_THERE",
    "PROBLEM",
    "PROGRESS",
    "UNTOLD",
    "USUAL_RATE",
    "Aside",
    "Audit",
    "AuditRow",
    "Backup",
    "Check",
    "CheckedDatabase",
    "DumpPart",
    "Found",
    "FoundCounts",
    "JournalProgress",
    "JournalTypes",
    "PartCount",
    "Question",
    "Receipt",
    "Remains",
    "Repair",
    "ReplayCount",
    "Resent",
    "Stretch",
    "Trace",
    "TracePart",
    "Traced",
    "TracedConnector",
    "Tried",
    "TypeCount",
    "WholeAudit",
    "WorkerCheck",
    "WorkerCount",
    "WorkerReceipt",
    "WorkerTrace",
    "answer_question",
    "audit",
    "audit_all",
    "back_up",
    "check_all",
    "check_databases",
    "count_all",
    "dump_all",
    "encode_line",
    "encode_problem",
    "find_remains",
    "has_run",
    "list_receipts",
    "merge_audits",
    "merge_counts",
    "plan_repairs",
    "repair_all",
    "restore",
    "search_all",
    "trace_all",
]
