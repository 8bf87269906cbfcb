"""Tables as an older relay had them."""

from typing import Final

AS_VERSION_9: Final = """
    DROP VIEW ledger; ALTER TABLE cursor DROP COLUMN damaged; ALTER TABLE replay DROP COLUMN damaged;
    CREATE VIEW ledger AS SELECT connector, expired FROM cursor;
    ALTER TABLE replay DROP COLUMN asked_by; ALTER TABLE erasure DROP COLUMN asked_by;
"""
"""Makes the tables of today those of version 9."""
