"""The OpenAPI document: paths written by hand, schemas from the code."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import msgspec

from relay.api import Message, TableColumn, User
from relay.config import Mistake
from relay.inspect import Audit, Check, JournalTypes, Receipt, Remains, ReplayCount, Stretch, Trace, WholeAudit
from relay.proposal import AvailableTypes, Probe, Proposal, ProposalAnswer
from relay.status import Diagnosis, Status
from relay.store import Entry, Forgotten, Parked, ParkedGroup, ParkedQuery, Replay

SCHEMAS: Final = (
    *(Status, Diagnosis, Audit, WholeAudit, Check, Trace, ReplayCount, Stretch, Forgotten, Parked, Replay, ParkedQuery),
    *(User, Receipt, Remains, Entry, Message, Mistake, AvailableTypes, Probe, Proposal, ProposalAnswer, ParkedGroup),
    *(JournalTypes, TableColumn),
)


def list_schemas() -> Sequence[type]:
    """List the values that the API takes and gives."""
    from relay.trial import Diff, DiffRequest  # late: a daemon does without the package

    return *SCHEMAS, Diff, DiffRequest


def render_contract() -> str:
    """Return the document as YAML. In its last part, the schemas, each line is JSON."""
    _, schemas = msgspec.json.schema_components(
        list_schemas(),
        ref_template="#/components/schemas/{name}",
    )
    lines = [f"    {name}: {msgspec.json.encode(schema).decode()}\n" for name, schema in schemas.items()]
    text = files("relay.admin").joinpath("openapi.yaml").read_text("utf-8")
    return f"{text}  schemas:\n{''.join(lines)}"
