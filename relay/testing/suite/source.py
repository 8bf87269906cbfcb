"""`SourceSuite`: what every source must show. Subclass it in a test module."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import orjson

from relay.api import Decoded, Denied, Kind, Malformed, Request, Response, Secret, Source
from relay.guests import Wrong
from relay.ingest import check_decoded
from relay.testing.suite.behaviour import Check, SuiteBase, behaviour, expect, overheard
from relay.testing.suite.destination import make_id
from relay.testing.suite.refusal import check_refused
from relay.testing.suite.rehearsal import TOKEN

T = TypeVar("T")

OTHER_TOKEN = "another-secret"
BROKEN = (
    b"",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b"1",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"id": 1e999}',
    b'{"id":"\\ud800"}',
)
CUTS = 20
"""Places at which a good body is cut."""


class SourceSuite(SuiteBase):
    """Tests of a source. Subclass it with a name that begins with `Test`, and write `make` and `request`."""

    lacks: ClassVar[Mapping[str, str]] = {}
    """What the source cannot have: the short name of a behaviour, and the reason. pytest prints them at the end."""
    limit: ClassVar[float] = 30.0
    """Most seconds of one behaviour."""

    def make(self, token: Secret) -> Source:
        """Return the source under test. `token`: a reference to the secret of the sender."""
        raise NotImplementedError

    def request(self, id: str, token: str) -> Request:
        """Return a good request that brings one event with this id, signed or authorized with the secret `token`."""
        raise NotImplementedError

    @behaviour("takes")
    async def test_takes_a_good_request(self, source: Source) -> None:
        """A good request passes `authorize` and `verify`, and `decode` keeps its contract."""
        decoded = _take(source, self.request(make_id(), TOKEN))
        expect(len(decoded.bodies) == 1, f"decode makes {len(decoded.bodies)} events of a request with one")
        expect(not decoded.unreadable, f"an entry of a good request is unreadable: {decoded.unreadable[:1]}")

    @behaviour("id")
    async def test_the_senders_id_is_the_events_id(self, source: Source) -> None:
        """The id of the sender is in `ids` and in the body, so that `dedupe` and connectors can use it."""
        wanted = make_id()
        decoded = _take(source, self.request(wanted, TOKEN))
        expect(decoded.ids is not None, "decode gives no ids: `dedupe` cannot find duplicates")
        expect([*(decoded.ids or ())] == [wanted], f"the id is {decoded.ids}, not {wanted}")
        field = decoded.kinds[0].id_field
        inside = orjson.loads(bytes(decoded.bodies[0])).get(field)
        expect(inside == wanted, f"the body has {field} = {inside!r}: connectors send that as the idempotency key")

    @behaviour("repeatable")
    async def test_a_repeated_request_is_the_same_event(self, source: Source) -> None:
        """Senders repeat requests: `decode` makes the same of the same, and keeps nothing in the source."""
        request = self.request(make_id(), TOKEN)
        one, other = _take(source, request), _take(source, request)
        # A body may have the time of receipt in it: ids count where there are any
        same = one.ids == other.ids and (one.ids or [*map(bytes, one.bodies)] == [*map(bytes, other.bodies)])
        expect(same and [*one.kinds] == [*other.kinds], "a repeated request is another event")

    @behaviour("denies")
    async def test_denies_a_wrong_secret(self, source: Source) -> None:
        """A request with another secret is `Denied`."""
        _check_denied(source, self.request(make_id(), OTHER_TOKEN), "with another secret")

    @behaviour("denies_without")
    async def test_denies_a_request_without_credentials(self, source: Source) -> None:
        """A request without any header is `Denied`, or `Malformed` where the header of the signature is missing."""
        request = self.request(make_id(), TOKEN)
        _check_denied(source, Request(request.body), "without credentials")

    @behaviour("tampered")
    async def test_a_signature_covers_the_body(self, source: Source) -> None:
        """A signed request with another body is `Denied`."""
        if type(source).verify is Source.verify:
            return
        request = self.request(make_id(), TOKEN)
        changed = Request(request.body + b" ", request.headers, request.query_string)
        _check_denied(source, changed, "with a changed body")

    @behaviour("broken")
    async def test_refuses_bodies_that_are_broken(self, source: Source) -> None:
        """A body of another form is `Malformed`, or has no events; it is no bug."""
        good = self.request(make_id(), TOKEN)
        cut = [good.body[: len(good.body) * part // CUTS] for part in range(CUTS)]
        for body in itertools.chain(BROKEN, cut):
            _decode(source, Request(body, good.headers, good.query_string), f"the body {body[:40]!r}")

    @behaviour("odd_headers")
    async def test_refuses_headers_that_are_odd(self, source: Source) -> None:
        """A header that is missing, empty, long or not UTF-8 is no bug."""
        good = self.request(make_id(), TOKEN)
        for name in good.headers:
            others = {one: value for one, value in good.headers.items() if one != name}
            _decode(source, Request(good.body, others), f"no header {name}")
            for value in ("", "\udcff", "x" * 10_000):
                _decode(source, Request(good.body, others | {name: value}), f"the header {name}: {value[:10]!r}")

    @behaviour("other_methods")
    async def test_answers_other_methods(self, source: Source) -> None:
        """`respond` answers, denies or refuses what is not POST."""
        for method in source.methods:
            if method == "POST":
                continue
            for query in ("", "mode=subscribe&challenge=1"):
                answer = _guard(source.respond, Request(b"", {}, query, method), f"{method} ?{query}")
                expect(answer is None or isinstance(answer, Response), f"respond returns {answer!r} for {method}")

    @behaviour("secret")
    async def test_keeps_its_secret_out_of_what_it_says(self, source: Source) -> None:
        """No reason, log line, output or representation has the secret."""
        said = [repr(source), repr(source.settings), repr(vars(source.settings)), source.notice]
        with overheard() as heard:
            good = self.request(make_id(), TOKEN)
            for call, request in (
                (source.authorize, self.request(make_id(), OTHER_TOKEN)),
                (source.verify, self.request(make_id(), OTHER_TOKEN)),
                (source.verify, Request(good.body)),
                (source.decode, good),
                (source.decode, Request(b"{", good.headers)),
            ):
                try:
                    call(request)
                except (Denied, Malformed) as error:
                    said.append(repr(error))
            said.append(heard())
        expect(TOKEN not in "\n".join(said), "the secret is in a reason, the log or a representation")

    @behaviour("unknown_setting")
    async def test_refuses_an_unknown_setting(self, source: Source) -> None:
        """A setting that the type does not have is a mistake, and named."""
        check_refused(source.settings, "surprise", 1)

    async def _show(self, check: Check, folder: Path) -> None:
        token = folder / "token"
        token.write_text(TOKEN)
        await check(self, self.make(Secret("file", str(token))))


def _take(source: Source, request: Request) -> Decoded:
    """Take a request as relay does. Raises Denied, Malformed."""
    source.authorize(request)
    expect(source.verify(request) is None, "verify returns something: raise Denied")  # type: ignore[func-returns-value]
    expect(source.respond(request) is None, "respond answers a request that brings events")
    return _check(source, source.decode(request))


def _check(source: Source, decoded: Decoded) -> Decoded:
    known: set[Kind] = set()
    try:
        return check_decoded(decoded, source.name, known, [])
    except Wrong as error:
        raise AssertionError(str(error)) from None


def _check_denied(source: Source, request: Request, how: str) -> None:
    try:
        source.authorize(request)
        source.verify(request)
    except (Denied, Malformed) as error:
        expect(str(error), f"a request {how} is denied without a reason")
    else:
        raise AssertionError(f"a request {how} is taken")


def _decode(source: Source, request: Request, what: str) -> None:
    """Fail the behaviour if a request is a bug to the source."""
    decoded = _guard(source.decode, request, what)
    if decoded is not None:
        _check(source, decoded)


def _guard(call: Callable[[Request], T], request: Request, what: str) -> T | None:
    try:
        return call(request)
    except (Denied, Malformed) as error:
        expect(str(error), f"{what} is refused without a reason")
    except Exception as error:  # whatever it is, the source is to blame
        raise AssertionError(f"{what} is a bug of the source: {type(error).__name__}: {error}") from error
    return None
