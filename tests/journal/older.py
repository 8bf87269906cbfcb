"""Tables as an older relay had them."""

from typing import Final

WITHOUT_DAMAGE: Final = """
    DROP VIEW ledger; ALTER TABLE cursor DROP COLUMN damaged; ALTER TABLE replay DROP COLUMN damaged;
    CREATE VIEW ledger AS SELECT connector, expired FROM cursor;
"""
"""Makes the tables of today those of version 9, where these were the last to change."""
