"""Reads a journal from outside, read-only and without its lock, whether relay runs or not. Only `repair` writes."""
