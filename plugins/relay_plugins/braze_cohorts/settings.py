"""The settings of the connector: which Braze, and how relay tells it of cohorts."""

import re
from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field, field_validator

from relay.api import BearerToken, Contradiction, EventSelection, HttpConnectorSettings, HttpUrl, Secret
from relay_plugins.braze_cohorts.change import EVENT_TYPE

HOSTS: Final = {
    **{f"US-0{number}": f"https://rest.iad-0{number}.braze.com" for number in range(1, 9)},
    "EU-01": "https://rest.fra-01.braze.eu",
    "EU-02": "https://rest.fra-02.braze.eu",
    "AU-01": "https://rest.au-01.braze.com",
    "ID-01": "https://rest.id-01.braze.com",
    "JP-01": "https://rest.jp-01.braze.com",
    "KR-01": "https://rest.kr-01.braze.com",
}
"""REST hosts by cluster (Braze docs, API overview)."""
NEEDS: Final = {"cohort": ("partner", "partner_key", "data_import_key"), "attribute": ("rest_key",)}
ARRAY_SIZE: Final = 25
"""Elements of an array of custom attributes by default (Braze docs, User attributes object)."""
TAKES: Final = NEEDS | {"attribute": ("rest_key", "attribute", "style", "array_size")}
"""Settings that only one mode has, by mode. NEEDS has the settings that a mode requires."""


class CohortSettings(HttpConnectorSettings):
    """Which Braze, and how relay tells it of cohorts."""

    events: EventSelection = (EVENT_TYPE,)
    """Which events the connector gets. It takes the type `cohort.Change` alone."""
    cluster: str | None = None
    """Cluster of your Braze dashboard: `"US-01"` to `"US-08"`, `"EU-01"`, `"EU-02"`, `"AU-01"`, `"ID-01"`, `"JP-01"` or
    `"KR-01"`. Set either `cluster` or `endpoint`."""
    endpoint: HttpUrl | None = None
    """URL of Braze's REST endpoint, instead of `cluster`."""
    mode: Literal["cohort", "attribute"] = "cohort"
    """How Braze learns of cohorts. `"cohort"`: the partner API for cohorts. `"attribute"`: an attribute of the users,
    by a REST key."""
    partner: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$")
    """Mode `"cohort"`: name of the partner in Braze's paths `/partners/NAME/cohorts`."""
    partner_key: Secret | None = None
    """Mode `"cohort"`: the key that Braze gave the partner."""
    data_import_key: Secret | None = None
    """Mode `"cohort"`: the data import key. In Braze: Partner Integrations > Technology Partners > Heap."""
    rest_key: BearerToken | None = None
    """Mode `"attribute"`: a REST key that may call `users.track`."""
    attribute: str | None = Field(None, min_length=1)
    """Mode `"attribute"`: name of the attribute. `{id}` is the id of the cohort, `{name}` its name as in `lost_carts`.
    Left out: `heap_cohort_{id}`, or `heap_cohorts` for an array.

    The attribute keeps its name when the segment is renamed. Of two cohorts with one name, the second has its id in the
    attribute's name as well.
    """
    style: Literal["boolean", "array"] = "boolean"
    """Mode `"attribute"`: values of the attribute. `"boolean"`: true and false. `"array"`: a list with the ids of the
    user's cohorts."""
    array_size: int | None = Field(None, ge=1, le=500)
    """Mode `"attribute"`, style `"array"`: how many elements your Braze keeps in an array. Left out: 25, Braze's usual
    number.

    Braze drops the oldest elements of a full array without a word.
    """

    @field_validator("cluster")
    @classmethod
    def _check_cluster(cls, cluster: str | None) -> str | None:
        if cluster is not None and cluster not in HOSTS:
            raise ValueError(f"there is no {cluster}; known are {', '.join(HOSTS)}")
        return cluster

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield a missing host, settings that the mode needs, and settings that it does not use."""
        yield from super().contradictions()
        if (self.cluster is None) == (self.endpoint is None):
            yield "cluster endpoint", "set either cluster or endpoint"
        for field in NEEDS[self.mode]:
            if getattr(self, field) is None:
                yield f"{field} mode", f'{field} is missing: mode = "{self.mode}" needs it'
        (other,) = TAKES.keys() - {self.mode}
        for field in TAKES[other]:
            if field in self.model_fields_set:
                yield f"{field} mode", f'{field} is for mode = "{other}"; this is mode = "{self.mode}"'
        if (
            self.attribute
            and self.style == "boolean"
            and not {"{id}", "{name}"}.intersection(re.findall(r"\{\w+\}", self.attribute))
        ):
            yield "attribute style", "attribute has neither {id} nor {name}: all cohorts would have the same attribute"
        if self.array_size and self.style != "array":
            yield "array_size style", 'array_size is for style = "array"'

    def warnings(self) -> Iterator[Contradiction]:
        """Yield `style` if arrays may overflow."""
        yield from super().warnings()
        if self.style == "array" and self.array_size is None:
            reason = (
                f"Braze keeps {ARRAY_SIZE} elements of an array, and the oldest leave without a word:"
                " users in more cohorts lose some; set array_size to what your Braze keeps"
            )
            yield "style", reason
