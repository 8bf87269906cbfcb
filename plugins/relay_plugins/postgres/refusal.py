"""What an error of PostgreSQL means for a delivery.

The meaning follows from the error's code, SQLSTATE (PostgreSQL docs, Appendix A). The texts depend on the language of
the server.
"""

from typing import Any, Final

from relay.api import Reject, Retry, Unauthorized

UNFIT: Final = ("22", "23", "44", "54", "P0001")
"""Errors that come from an event: data, constraints, limits such as the size of an index entry, and a trigger's own."""
LASTING: Final = ("0A", "0L", "0P", "28", "3D", "3F", "42")
"""Classes of errors that last until an admin changes something: login, database, schema, table, columns, rights."""
CURES: Final = {
    "3F000": "make the schema: CREATE SCHEMA",
    "42501": "the user of the dsn needs USAGE on the schema, INSERT on the table, and SELECT on its column id: GRANT",
    "42P01": "make the table: `relay postgres create` has its SQL",
    "42703": "add the column: `relay postgres create --print` shows the columns",
    "42P10": "the column id needs a primary key or a unique index",
}


def read_error(error: Any) -> Retry | Reject | Unauthorized:
    """Return the outcome for an error that the server has reported."""
    code, said = str(error.sqlstate or ""), str(error.args[0])
    if code.startswith(UNFIT):
        return Reject(f"PostgreSQL does not store it: {said} ({code})", answer=str(error.detail or ""))
    if code.startswith(LASTING):
        cure = CURES.get(code)
        return Unauthorized(f"PostgreSQL: {said} ({code}){f'; {cure}' if cure else ''}")
    return Retry(f"PostgreSQL: {said} ({code})")
