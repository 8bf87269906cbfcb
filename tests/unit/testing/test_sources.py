"""Every built-in source passes its suite, and the suite catches sources that are wrong on purpose."""

import base64
import hmac
import json
import time
from typing import ClassVar

import orjson
import pytest

from relay.api import Decoded, Malformed, Request, Secret, Source, SourceSettings, check_hmac
from relay.testing import SourceSuite
from relay_plugins.currents import Currents
from relay_plugins.heap_segments import HeapSegments
from relay_plugins.json_source import Json

SETTINGS = {"path": "/in", "dedupe": "1h"}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class TestCurrents(SourceSuite):
    def make(self, token):
        return Currents("braze", Currents.Settings.model_validate(SETTINGS | {"type": "currents", "tokens": [token]}))

    def request(self, id, token):
        event = {"event_type": "users.canvas.Entry", "id": id, "time": 1790000000, "user": {}, "properties": {}}
        return Request(orjson.dumps({"events": [event]}), bearer(token))


class TestJson(SourceSuite):
    def make(self, token):
        return Json("shop", Json.Settings.model_validate(SETTINGS | {"type": "json", "tokens": [token]}))

    def request(self, id, token):
        return Request(orjson.dumps({"event_type": "shop.Order", "id": id}), bearer(token))


class TestHeapSegments(SourceSuite):
    lacks: ClassVar = {"id": "Heap's calls have none: relay makes it of the page"}

    def make(self, token):
        return HeapSegments("heap", HeapSegments.Settings(type="heap_segments", path="/heap", secret=token))

    def request(self, id, token):
        info = {"page_number": 1, "total_pages": 1, "sync_task_id": "t1"}
        data = {"segment": {"id": 7, "name": "Lost carts"}, "sync_info": info, "add": [{"id": id}], "remove": []}
        body = orjson.dumps({"action_type": "segment.users.sync", "data": data})
        stamp = str(int(time.time() * 1000))
        digest = base64.b64encode(hmac.digest(token.encode(), stamp.encode() + body, "sha256")).decode()
        return Request(body, {"Heap-Hash": f"ts:{stamp},hmac:{digest}"})


class Good(Source):
    class Settings(SourceSettings):
        secret: Secret

    def verify(self, request):
        check_hmac(request.headers.get("X-Signature"), self.settings.secret, request.body, prefix="sha256=")

    def decode(self, request):
        event = request.json() | {"id": request.header("X-Event-Id")}
        return Decoded([self.kind("shop.order")], [json.dumps(event).encode()], ids=[event["id"]])


class TakesAll(Good):
    def verify(self, request):
        pass


class SignsNoBody(Good):
    def verify(self, request):
        check_hmac(request.headers.get("X-Signature"), self.settings.secret, b'{"total": 12}', prefix="sha256=")


class FailsWithoutHeaders(Good):
    def verify(self, request):
        request.headers["X-Signature"].encode()
        super().verify(request)


class FailsOnBrokenBodies(Good):
    def decode(self, request):
        event = json.loads(request.body) | {"id": request.header("X-Event-Id")}
        return Decoded([self.kind("shop.order")], [json.dumps(event).encode()], ids=[event["id"]])


class FailsOnOddHeaders(Good):
    def decode(self, request):
        name = request.headers.get("X-Event-Id", "")
        return Decoded([self.kind("shop.order")], [request.body], ids=[name])


class GivesNoIds(Good):
    def decode(self, request):
        return super().decode(request)._replace(ids=None)


class GivesOtherIds(Good):
    def decode(self, request):
        return super().decode(request)._replace(ids=["1"])


class Counts(Good):
    count = 0

    def decode(self, request):
        self.count += 1
        return super().decode(request)._replace(ids=[str(self.count)])


class SaysItsSecret(Good):
    def decode(self, request):
        try:
            return super().decode(request)
        except Malformed as error:
            raise Malformed(f"{error}, signed with {self.settings.secret.reveal()}") from None


def make_suite(source):
    class Suite(SourceSuite):
        def make(self, token):
            return source("shop", source.Settings(type="shop", path="/shop", secret=token))

        def request(self, id, token):
            body = b'{"total": 12}'
            signature = "sha256=" + hmac.digest(token.encode(), body, "sha256").hex()
            return Request(body, {"X-Signature": signature, "X-Event-Id": id})

    return Suite


class TestGood(make_suite(Good)):
    pass


CAUGHT = [
    (TakesAll, "denies", "a request with another secret is taken"),
    (TakesAll, "denies_without", "a request without credentials is taken"),
    (SignsNoBody, "tampered", "a request with a changed body is taken"),
    (FailsWithoutHeaders, "denies_without", "X-Signature"),
    (FailsOnBrokenBodies, "broken", "the body b'' is a bug of the source"),
    (FailsOnOddHeaders, "odd_headers", "decode returned an empty id"),
    (GivesNoIds, "id", "decode gives no ids"),
    (GivesOtherIds, "id", "the id is"),
    (Counts, "repeatable", "a repeated request is another event"),
    (SaysItsSecret, "secret", "the secret is in a reason"),
]


@pytest.mark.parametrize(("source", "key", "sentence"), CAUGHT, ids=lambda one: getattr(one, "__name__", None))
def test_the_behaviour_catches(source, key, sentence, tmp_path):
    with pytest.raises((AssertionError, KeyError), match=sentence):
        make_suite(source)().run(key, tmp_path)
