"""The tables of erasures, and the removal of users from all tables."""
