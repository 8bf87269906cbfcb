"""The cluster that a node has worked with, by the file `cluster` in its state folder.

Another cluster in the same schema is a mistake: a wrong dsn, or a schema that was dropped and made again. So a node
with such a file takes part in no other cluster until an admin accepts it. A node whose state folder is empty takes part
in the cluster that it finds.
"""

import os
from pathlib import Path
from uuid import UUID

from relay.journal import lock
from relay.postgres.cluster import Cluster
from relay.postgres.error import OTHER_CLUSTER
from relay.store import Unavailable
from relay.words import describe_error


class KnownCluster:
    """What a state folder knows of its cluster."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder, self._path = cluster, folder, folder / "cluster"
        self._lock: int | None = None

    def hold(self) -> None:
        """Lock the state folder for this process: two relays would take each other's admin socket. Raises
        Unavailable."""
        if self._lock is not None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = lock(self._folder)
        except OSError as error:
            raise Unavailable(f"the state folder {self._folder} cannot be used: {describe_error(error)}") from error

    def let_go(self) -> None:
        """Unlock the state folder, if this process has locked it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def describe_other(self) -> str:
        """Describe another cluster than the known one, and what to do; "" if it is the same, or none is known.

        Raises Unavailable.
        """
        known, present = self._read(), self._cluster.read_id()
        if known in (None, present):
            return ""
        said = f"{self._cluster.place} holds cluster {present}, and this node has worked with cluster {known}"
        return f"{said}: {OTHER_CLUSTER}"

    def check(self) -> None:
        """Raise Unavailable if another cluster is known."""
        if said := self.describe_other():
            raise Unavailable(said)

    def accept(self) -> UUID:
        """Take part in the present cluster from now on; return its id. Raises Unavailable."""
        present = self._cluster.read_id()
        if self._read() == present:
            return present
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.write_text(f"{present}\n", "ascii")
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {describe_error(error)}") from error
        return present

    def _read(self) -> UUID | None:
        try:
            return UUID(self._path.read_text("ascii").strip())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Unavailable(f"{self._path} cannot be read: {error}") from error
