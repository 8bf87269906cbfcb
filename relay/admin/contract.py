"""The OpenAPI document: what is asked and answered is written by hand, the values in it are those of the code."""

from importlib.resources import files
from typing import Final

import msgspec

from relay.admin.diagnosis import Diagnosis
from relay.admin.status import Status
from relay.admin.tracing import Trace
from relay.api import Message, User
from relay.journal import Forgotten, Parked, Replay, Which
from relay.journal.audit import Audit, WholeAudit
from relay.journal.check import Check
from relay.journal.counting import ReplayCount, Stretch
from relay.journal.history import Entry
from relay.journal.receipts import Receipt
from relay.journal.remains import Remains

SCHEMAS: Final = (
    *(Status, Diagnosis, Audit, WholeAudit, Check, Trace, ReplayCount, Stretch, Forgotten, Parked, Replay, Which),
    *(User, Receipt, Remains, Entry, Message),
)


def contract() -> str:
    """The document, as YAML: of its last part, the schemas, each line is JSON."""
    _, schemas = msgspec.json.schema_components(
        SCHEMAS,
        ref_template="#/components/schemas/{name}",
    )
    lines = [f"    {name}: {msgspec.json.encode(schema).decode()}\n" for name, schema in schemas.items()]
    text = files("relay.admin").joinpath("openapi.yaml").read_text("utf-8")
    return f"{text}  schemas:\n{''.join(lines)}"
