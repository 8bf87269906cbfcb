"""A real server that speaks S3, which goes away and comes back with the objects that it had."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.postgres.server import find_port


class ObjectStore:
    """The server of moto, in a thread."""

    def __init__(self) -> None:
        self.port = find_port()
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, with the objects of before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # moto warns of parts that S3 does not need
            from moto.server import ThreadedMotoServer
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Stop the server. Its objects stay, until `forget`."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def forget(self) -> None:
        """Remove all buckets."""
        self._backend().reset()

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        self._backend().create_bucket(name, "us-east-1")

    def list_objects(self, bucket: str) -> dict[str, bytes]:
        """Return the objects of a bucket by their keys."""
        return {key.name: key.value for key in self._backend().buckets[bucket].keys.values()}

    def _backend(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]


@contextmanager
def run_object_store() -> Iterator[ObjectStore]:
    """Run a server for the body."""
    store = ObjectStore()
    store.start()
    try:
        yield store
    finally:
        store.stop()
        store.forget()
