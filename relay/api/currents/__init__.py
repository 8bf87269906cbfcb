"""What Braze documents of Currents' events, as data for plugins."""

from relay.api.currents.storage_fields import (
    StorageField,
    find_known_paths,
    find_personal_fields,
    find_storage_fields,
)

__all__ = ["StorageField", "find_known_paths", "find_personal_fields", "find_storage_fields"]
