"""The connector type `file`."""

from relay_plugins.file.connector import File

__all__ = ["File"]
