"""The connector type `heap`: Currents events to the webhook that Heap gives its customers, or to Heap's server API."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from relay.api import (
    Batch,
    BearerToken,
    Connector,
    Contradiction,
    Event,
    HttpConnectorSettings,
    HttpUrl,
    Outcome,
    Secret,
    Skipped,
    User,
)
from relay_plugins.braze_events import PROFILE, check_event_name
from relay_plugins.heap.bulk_track import MOST_ITEMS, HeapApp
from relay_plugins.heap.deletion import Deletion
from relay_plugins.heap.plain_event import MOST_CHARACTERS

API_RATE: Final = 245.0
"""Events per second, with a burst of one second: below 15,000 in any minute."""
WEBHOOK_EVENTS: Final = 100
"""Events of a request, as Braze batches them (Braze docs, Custom Currents Export)."""
API_EVENTS: Final = 250
"""Events of a request: about as many as may go in a second."""
API_ONLY: Final = frozenset({"region", "without_identity", "prefix", "names"})
FOR_DELETION: Final = frozenset({"app_id", "identity"})
"""Settings that the deletion of users needs, and the webhook does not."""


EventName = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(check_event_name)]


class Heap(Connector, type="heap", batch={"events": WEBHOOK_EVENTS}):
    """Sends events to Heap: to the webhook that Heap has set up for Braze, or to Heap's server-side API.

    In the mode `webhook` Heap gets the payload and headers that Braze itself would send. In the mode `api` relay calls
    bulk track and bulk add user properties.
    """

    # Braze docs, Heap: the export is the Custom HTTP one. Heap docs, Braze: the URL comes from Heap.
    per_type_settings: ClassVar[tuple[str, ...]] = ("names",)
    erasure_setting: ClassVar[str] = "api_key"

    class Settings(HttpConnectorSettings):
        """Where Heap takes events, and in which form."""

        mode: Literal["webhook", "api"] = "webhook"
        """Where events go. `"webhook"`: the webhook that Heap set up for Braze. `"api"`: Heap's server-side API.

        In the mode `"api"` two defaults differ: `rate` is 245, below Heap's limit of 15,000 events a minute, and
        `batch.events` is 250, at most 1,000.
        """
        endpoint: HttpUrl | None = None
        """The webhook URL that Heap gave you. The mode `"webhook"` needs this URL. In the mode `"api"` the URL names
        another host instead of `region`."""
        token: BearerToken | None = None
        """A bearer token for the webhook, if Heap gave you one."""
        app_id: str | None = Field(None, pattern=r"^\d+$")
        """The id of the environment in Heap: Account > Manage > Account Settings. The mode `"api"` and `api_key` need
        the id, which is no secret."""
        region: Literal["us", "eu"] = "us"
        """Mode `"api"`: where your data is in Heap. `"us"` is heapanalytics.com, `"eu"` is c.eu.heap-api.com."""
        identity: Literal["external_user_id", "user_id"] = "external_user_id"
        """Mode `"api"`, or with `api_key`: the field of `user` that is the identity in Heap."""
        without_identity: Literal["park", "skip"] = "park"
        """Mode `"api"`: what happens to events without an identity. `"park"`: relay parks the events. `"skip"`: the
        events count as filtered."""
        prefix: str = Field("", max_length=100)
        """Mode `"api"`: text before the names of events and properties, such as `"braze-"`."""
        names: dict[str, EventName] = Field(default_factory=dict)
        """Mode `"api"`: names in Heap by event type, such as `{ "users.behaviors.Purchase" = "Bought" }`. Other types
        have their usual names.

        Usual names read `Email Send`, `Push Notification Open`, `Purchase`. A custom event has its own name. `{name}`
        stands for the event's own name (`properties.name`): `{ "users.behaviors.CustomEvent" = "Shop: {name}" }`.
        """
        api_key: Secret | None = None
        """API key of Heap's Main Production environment: Heap deletes the users that relay erases, in both modes. The
        key needs the `app_id` of that environment."""

        @model_validator(mode="after")
        def _set_defaults_of_the_api(self) -> Self:  # the defaults depend on `mode`: pydantic has no other way
            if self.mode == "api" and "rate" not in self.model_fields_set:
                vars(self)["rate"] = API_RATE
            if self.mode == "api" and "events" not in self.batch.model_fields_set:
                vars(self)["batch"] = self.batch.model_copy(update={"events": API_EVENTS})
            return self

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield settings that the mode needs, and settings that it does not use."""
            yield from super().contradictions()
            if self.mode == "webhook":
                if self.endpoint is None:
                    reason = 'endpoint is missing: the webhook URL that Heap gave you (or set mode = "api")'
                    yield "endpoint mode", reason
                for strange in sorted(API_ONLY & self.model_fields_set):
                    yield f"{strange} mode", f'{strange} is for mode = "api"; this is mode = "webhook"'
                yield from self._check_deletion()
                return
            if self.app_id is None:
                yield "app_id mode", "app_id is missing: in Heap under Account > Manage > Account Settings"
            if self.token is not None:
                yield "token mode", "token is for the webhook; Heap's API goes by app_id alone"
            if self.endpoint is not None and "region" in self.model_fields_set:
                yield "region endpoint", "endpoint is another host than the region's: leave out one of them"
            if (events := self.batch.events) > MOST_ITEMS:
                yield "batch mode", f"batch.events: Heap's API takes {MOST_ITEMS:,} at most, got {events:,}"

        def _check_deletion(self) -> Iterator[Contradiction]:
            if self.api_key is None:
                for strange in sorted(FOR_DELETION & self.model_fields_set):
                    yield f"{strange} mode", f'{strange} is for mode = "api", or for deleting users: set api_key, too'
            elif self.app_id is None:
                yield "app_id api_key", "app_id is missing, which api_key belongs to: in Heap under Account > Manage"

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self._headers = {"Content-Type": "application/json", "Braze-Currents-Version": "1"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token.reveal()}"
        self._api = HeapApp(settings, self.post) if settings.mode == "api" else None
        self._deletion = Deletion(settings, self) if settings.api_key else None

    async def probe(self) -> str:
        """Connect to Heap. Raises `Retry`."""
        return await self.reach(self._api.url if self._api is not None else str(self.settings.endpoint))

    @property
    def keeps_order(self) -> bool:
        """Return whether `key` returns keys."""
        return self._api is not None or bool(self.settings.order_by)

    def key(self, event: Event) -> str | None:
        """Return the key by `order_by`; without it the identity of an updated profile in the mode `api`. Heap keeps the
        value of a property that came last."""
        if self.settings.order_by:
            return super().key(event)
        identity = event.user.get(self.settings.identity) if self._api and event.type == PROFILE else None
        return None if identity is None else str(identity)

    async def deliver(self, batch: Batch) -> list[Outcome] | None:
        """Post the batch as `{"events": [...]}`, or hand its events to the API."""
        if self._api is not None:
            return await self._api.deliver(batch)
        await self.post(str(self.settings.endpoint), batch.joined(b'{"events":[', b"]}"), self._headers)
        return None

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Delete the users with Heap's User Deletion API; return `Skipped` without `api_key`."""
        if self._deletion is None:
            return [Skipped("not supported: it needs app_id and api_key")] * len(users)
        return await self._deletion.erase(users)
