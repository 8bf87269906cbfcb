"""Batches: read from the journal, built within limits, cut into groups and parts, put back into order."""
