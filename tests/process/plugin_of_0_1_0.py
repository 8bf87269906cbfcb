"""A plugin as somebody wrote it for relay 0.1.0. Never change this file: a newer relay has to run it as it is."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import click

from relay.api import (
    DELIVERED,
    Alert,
    AlertSettings,
    Batch,
    Connector,
    Contradiction,
    Decoded,
    Duration,
    Event,
    Filter,
    FilterSettings,
    HttpConnectorSettings,
    HttpUrl,
    Message,
    Outcome,
    Plugin,
    Reject,
    Request,
    Response,
    Secret,
    Skipped,
    Source,
    SourceSettings,
    User,
    check_hmac,
    hookimpl,
)


class OldHook(Source, type="old_hook"):
    """Takes signed orders."""

    emitted_types: ClassVar = ("old.order",)

    class Settings(SourceSettings):
        """The secret of the sender."""

        secret: Secret
        """Secret with which the sender signs."""

    def verify(self, request: Request) -> None:
        """Check the signature."""
        check_hmac(request.headers.get("X-Signature"), self.settings.secret, request.body, prefix="sha256=")

    def respond(self, request: Request) -> Response | None:
        """Answer a challenge."""
        challenge = request.json().get("challenge")
        return Response(challenge) if challenge else None

    def decode(self, request: Request) -> Decoded:
        """Make an event of each order."""
        orders = [order | {"event_type": "old.order"} for order in request.json()["orders"]]
        bodies = [json.dumps(order).encode() for order in orders]
        return Decoded([self.kind("old.order")] * len(orders), bodies, ids=[order["id"] for order in orders])


class OldNames(Filter, type="old_names"):
    """Drops orders without items, and gives each order a total."""

    class Settings(FilterSettings):
        """The name of the field."""

        field: str = "total"
        """Name of the field that gets the total."""

    def apply(self, event: Event) -> Event | list[Event] | None:
        """Count the items."""
        items = event.data.get("items")
        return event.with_data(event.data | {self.settings.field: len(items)}) if items else None


class OldLake(Connector, type="old_lake", batch={"events": 50, "age": "10ms"}, retry={"first": "10ms"}):
    """Sends each order once, and remembers the users."""

    accepted_types: ClassVar = ("old.order",)

    class Settings(HttpConnectorSettings):
        """Where the orders go."""

        url: HttpUrl
        """URL that gets the orders."""
        patience: Duration = 5.0
        """Longest wait of a customer."""
        limit: int = 10
        """Most items of an order."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield a limit of nothing."""
            if not self.limit:
                yield "limit", "limit must be at least 1"

    async def open(self) -> None:
        """Count the starts."""
        count = (await self.store.get([b"starts"])).get(b"starts", b"0")
        await self.store.write({b"starts": str(int(count) + 1).encode()})

    async def probe(self) -> str | None:
        """Connect to the destination."""
        return await self.reach(self.settings.url)

    def key(self, event: Event) -> str | None:
        """Keep the orders of a user in order."""
        return str(event.user.get("external_user_id"))

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Send the orders one by one."""
        lines = await self.run_blocking(batch.lines)
        self.log.info("orders", count=lines.count(b"\n"))
        return [await self._send(event) for event in batch]

    async def _send(self, event: Event) -> Outcome:
        if event.data["total"] > self.settings.limit:
            return Reject(f"more than {self.settings.limit} items")
        if event.id == "test":
            return Skipped("a test")
        await self.post(self.settings.url, event.body, {"Idempotency-Key": event.id})
        await self.store.write({f"user/{self.key(event)}".encode(): b""})
        return DELIVERED

    async def erase(self, users: Sequence[User]) -> None:
        """Forget the users."""
        await self.store.write(deletes=[f"user/{one}".encode() for user in users for one in user.external_ids])
        await self.store.purge()

    async def close(self) -> None:
        """Say goodbye."""
        self.log.info("the lake is closed")


class OldPager(Alert, type="old_pager"):
    """Posts messages."""

    class Settings(AlertSettings):
        """Where the messages go."""

        url: HttpUrl
        """URL that gets the messages."""

    async def send(self, message: Message) -> None:
        """Post the message."""
        body = {"key": message.id, "summary": message.title, "details": message.text}
        await self.post(self.settings.url, json.dumps(body).encode(), {"Content-Type": "application/json"})


@click.command()
def old() -> None:
    """Say how old the plugin is."""
    click.echo("0.1.0")


@hookimpl
def relay_types() -> Iterable[type[Plugin]]:
    """List the types."""
    return [OldHook, OldNames, OldLake, OldPager]


@hookimpl
def relay_commands() -> Iterable[click.Command]:
    """List the commands."""
    return [old]
