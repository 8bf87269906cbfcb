"""Every built-in filter passes its suite, and the suite catches filters that are wrong on purpose."""

from typing import Any, ClassVar
from uuid import uuid4

import pytest

from relay.api import Filter, FilterSettings, Secret
from relay.testing import FilterSuite, make_event
from relay_plugins.filters.condition import Drop, Keep
from relay_plugins.filters.lookup import Lookup
from relay_plugins.filters.redact import Hash, Redact
from relay_plugins.filters.reshape import Only, Rename, Set
from relay_plugins.filters.sample import Sample


class OfOpens(FilterSuite):
    def event(self):
        return make_event("users.messages.email.Open", email_address="anna@example.com")


class TestKeep(OfOpens):
    def make(self, folder):
        return Keep(
            "keep", Keep.Settings.model_validate({"type": "keep", "field": "event_type", "glob": "users.canvas.*"})
        )


class TestDrop(OfOpens):
    def make(self, folder):
        return Drop(
            "drop", Drop.Settings.model_validate({"type": "drop", "field": "event_type", "glob": "users.messages.*"})
        )


class TestRedact(OfOpens):
    def make(self, folder):
        return Redact("redact", Redact.Settings(type="redact", fields=["properties.email_address"]))


class TestHash(OfOpens):
    def make(self, folder):
        (folder / "key").write_text("a-long-key-for-pseudonyms-of-32-chars")
        key = Secret("file", str(folder / "key"))
        return Hash("hash", Hash.Settings(type="hash", fields=["properties.email_address"], secret=key))


class TestLookup(OfOpens):
    def make(self, folder):
        file = folder / "owners.csv"
        file.write_text("address,owner\nanna@example.com,Growth\n")
        fields = {"properties.owner": "owner"}
        table = {"type": "lookup", "file": str(file), "key": "properties.email_address", "fields": fields}
        return Lookup("lookup", Lookup.Settings.model_validate(table))


class TestOnly(OfOpens):
    lacks: ClassVar = {"leaves_others": "it takes fields from every event"}

    def make(self, folder):
        return Only("only", Only.Settings.model_validate({"type": "only", "fields": ["user.external_user_id"]}))


class TestRename(OfOpens):
    def make(self, folder):
        fields = {"properties.email_address": "properties.address"}
        return Rename("rename", Rename.Settings.model_validate({"type": "rename", "fields": fields}))


class TestSet(OfOpens):
    lacks: ClassVar = {
        "leaves_others": "it sets fields of every event",
        "odd": "an event is parked if there is no object to set the field in",
    }

    def make(self, folder):
        return Set("set", Set.Settings.model_validate({"type": "set", "values": {"properties.region": "eu"}}))


class TestSample(OfOpens):
    lacks: ClassVar = {"leaves_others": "no event is kept at the rate 0"}

    def make(self, folder):
        return Sample("sample", Sample.Settings(type="sample", rate=0))


class Good(Filter):
    """Splits an event by its items."""

    def apply(self, event) -> Any:
        items = event.properties.get("items")
        if not isinstance(items, list):
            return event
        return [event.with_data({**event.data, "properties": {"item": item}}) for item in items]


class DoesNothing(Good):
    def apply(self, event):
        return event


class WritesAllAnew(Good):
    def apply(self, event):
        made = super().apply(event)
        return event.with_data({**event.data, "seen": True}) if made is event else made


class IsRandom(Good):
    def apply(self, event):
        return event.with_data({**event.data, "random": str(uuid4())})


class ChangesTheContent(Good):
    def apply(self, event):
        event.data["seen"] = True
        return super().apply(event)


class FailsOnOddEvents(Good):
    def apply(self, event):
        items = event.data["properties"].get("items", ())
        return [event.with_data({**event.data, "properties": {"item": item}}) for item in items] or event


class BrokenByUnreadable(Good):
    broken = False

    def apply(self, event):
        self.broken = self.broken or b":1e999" in event.body
        return event if self.broken else super().apply(event)


class KeepsEvents(Good):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = []

    def apply(self, event):
        self.seen.append(event.id)
        return super().apply(event)


class WritesNoJson(Good):
    def apply(self, event):
        made = super().apply(event)
        return made if made is event else event.with_body(event.body[1:], encoded=True)


class FragileClose(Good):
    async def open(self):
        self.table = {}

    async def close(self):
        del self.table


def make_suite(step):
    class Suite(FilterSuite):
        def make(self, folder):
            return step("split", FilterSettings(type="split"))

        def event(self):
            return make_event("shop.Order", items=["cup", "plate"])

    return Suite


class TestGood(make_suite(Good)):
    pass


CAUGHT = [
    (DoesNothing, "does_something", "comes out as it went in"),
    (WritesAllAnew, "leaves_others", "does not come out as it went in"),
    (IsRandom, "repeatable", "set stateful = True"),
    (ChangesTheContent, "shared_content", "use event.with_data"),
    (FailsOnOddEvents, "odd", "an event with no properties is parked: filter split: KeyError"),
    (BrokenByUnreadable, "unreadable", "comes out in another way afterwards"),
    (KeepsEvents, "memory", "grows with each event: seen"),
    (WritesNoJson, "does_something", "comes out as something else than a JSON object"),
    (FragileClose, "closed_twice", "table"),
]


@pytest.mark.parametrize(("step", "key", "sentence"), CAUGHT, ids=lambda one: getattr(one, "__name__", None))
def test_the_behaviour_catches(step, key, sentence, tmp_path):
    with pytest.raises((AssertionError, AttributeError), match=sentence):
        make_suite(step)().run(key, tmp_path)
