"""What the daemon uses of the API beside what plugins may import. Plugins import `relay.api` only."""

from relay.api.batch import one_line
from relay.api.deadline import DEADLINE
from relay.api.json_parts import read_entry
from relay.api.plugin import describe_missing
from relay.api.secret import SECRET_FORMS, WAYS
from relay.api.settings import (
    BYTES,
    CONTRADICTION,
    SECONDS,
    annotate,
    check_pairs,
    check_rate,
    parse_duration,
    parse_size,
    parse_time,
    write_quantity,
    write_size,
)
from relay.api.source import KINDS_REMEMBERED, TYPE_CHARS
from relay.api.store import FIND_STORES, KEY_BYTES, VALUE_BYTES, check_write, find_key_range
from relay.api.text import MORE, cut, find_closest
from relay.api.threads import BACK_S, LeftBehind, Threads
from relay.api.transport.addresses import UNIX, NetworkList, Networks, Peer
from relay.api.transport.authorities import import_aiohttp
from relay.api.transport.pem import Pem, PemError, Validity, load_chain, trust, validity
from relay.api.transport.plain_file import NotPlain, check_plain, read_plain

__all__ = [
    "BACK_S",
    "BYTES",
    "CONTRADICTION",
    "DEADLINE",
    "FIND_STORES",
    "KEY_BYTES",
    "KINDS_REMEMBERED",
    "MORE",
    "SECONDS",
    "SECRET_FORMS",
    "TYPE_CHARS",
    "UNIX",
    "VALUE_BYTES",
    "WAYS",
    "LeftBehind",
    "NetworkList",
    "Networks",
    "NotPlain",
    "Peer",
    "Pem",
    "PemError",
    "Threads",
    "Validity",
    "annotate",
    "check_pairs",
    "check_plain",
    "check_rate",
    "check_write",
    "cut",
    "describe_missing",
    "find_closest",
    "find_key_range",
    "import_aiohttp",
    "load_chain",
    "one_line",
    "parse_duration",
    "parse_size",
    "parse_time",
    "read_entry",
    "read_plain",
    "trust",
    "validity",
    "write_quantity",
    "write_size",
]
