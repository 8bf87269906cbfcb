"""Finds plugins, checks what they provide, and makes those that the configuration names."""
