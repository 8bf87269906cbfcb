"""docs/reference/admin-api.md: what the admin API and the ingest listener answer, in short, from their OpenAPI."""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from relay.admin.openapi import list_schemas, render_contract
from relay.config.descriptions import _defined_in
from tests.docs.generate.markdown import code, document, table

ROOT: Final = Path(__file__).parents[3]
INTRO: Final = """
This page lists the requests that relay answers: those of admins, and those of senders. The commands use the same API.

```sh
curl --unix-socket /var/lib/relay/admin.sock http://relay/status                            # as root, without a token
curl -H "Authorization: Bearer $RELAY_ADMIN_TOKEN" http://127.0.0.1:8081/status         # at admin.listen
curl --unix-socket /var/lib/relay/admin.sock -X POST http://relay/lanes/heap/pause          # as `relay pause heap`
curl --unix-socket /var/lib/relay/admin.sock -d '{"connector": "heap"}' http://relay/parked/count
```

- The unix socket needs no token: file rights protect the socket. An address of `admin.listen` takes one of
  `admin.tokens` ([`[admin]`](configuration.md#admin)).
- Times are Unix seconds. Counts are since the start, unless stated otherwise. The outcomes of a connector are since its
  first run.
- An error has the form of RFC 9457: `title`, `status`, and `detail` with the reason.
- `GET /openapi.yaml` is the whole description, with every field of every answer. The ingest listener and the admin
  listener each have a description of their own.
"""
SENDERS: Final = """
Each source takes requests at its own path. relay answers 2xx after the events are on disk.
"""
PROBLEMS: Final = {
    "400": "the request is wrong",
    "401": "the token or the signature is missing or wrong",
    "403": "not allowed from this address",
    "404": "there is no such thing",
    "405": "not by this method",
    "408": "the body did not come in time",
    "411": "the request has no length",
    "413": "the body is too large",
    "415": "the body is packed in a way that relay does not know",
    "429": "more events per second than the source's `rate`; `Retry-After` says when to send again",
    "500": "a bug in the source's plugin",
    "503": "not now; send again later",
}
"""What an error means where the description has no text of its own."""
Node = Mapping[str, Any]


def page() -> str:
    """Make the page."""
    return document("Admin and ingest API", "relay/admin/openapi.yaml and relay/ingest/openapi.yaml", _parts())


def _parts() -> Iterator[str]:
    admin = yaml.safe_load(render_contract())
    ingest = yaml.safe_load((ROOT / "relay/ingest/openapi.yaml").read_text(encoding="utf-8"))
    yield INTRO
    yield "## Admin"
    yield from _paths(admin, admin["paths"], PROBLEMS | {"401": "the token is missing or wrong"})
    yield "## Ingest"
    yield SENDERS
    items = ingest["components"]["pathItems"]
    own = {
        "source": "PATH",
        "challengedSource": "PATH of a source that answers challenges",
        "heap_segments": "PATH of a source of type heap_segments",
    }
    yield from _paths(ingest, {own[name]: item for name, item in items.items()}, PROBLEMS)
    yield from _paths(ingest, ingest["paths"], PROBLEMS)


def _paths(whole: Node, paths: Node, problems: Mapping[str, str]) -> Iterator[str]:
    for path, item in paths.items():
        for method in ("get", "post", "delete"):
            if (operation := item.get(method)) is not None:
                yield f"### {method.upper()} {path}"
                yield f"{operation['summary'].rstrip('.')}."
                if about := operation.get("description"):
                    yield " ".join(about.split())
                yield from _parameters(whole, [*item.get("parameters", ()), *operation.get("parameters", ())])
                yield from _body(whole, operation)
                yield table(["answer", ""], [_answer(whole, problems, *one) for one in operation["responses"].items()])


def _parameters(whole: Node, given: list[Node]) -> Iterator[str]:
    rows = []
    for one in (_resolved(whole, each) for each in given):
        kind, need = _kind(whole, one["schema"]), "required" if one.get("required") else ""
        rows.append((code(one["name"]), f"{one['in']}, {kind}", need, one.get("description", "")))
    if rows:
        yield table(["parameter", "kind", "", "meaning"], rows)


def _body(whole: Node, operation: Node) -> Iterator[str]:
    """The fields of a JSON body, if the description names them."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    given = content.get("schema")
    schema = _resolved(whole, given or {}) if isinstance(given, dict) else {}
    if fields := schema.get("properties"):
        required, texts = schema.get("required", ()), _texts(given)
        rows = [
            (
                code(name),
                _kind(whole, one),
                "required" if name in required else "",
                one.get("description") or texts.get(name, ""),
            )
            for name, one in ((name, _resolved(whole, each)) for name, each in fields.items())
        ]
        yield table(["field of the body", "kind", "", "meaning"], rows)
    if example := content.get("example"):
        yield f"For example `{json.dumps(example)}`."


def _texts(schema: Node) -> dict[str, str]:
    """Find the texts of a body's fields in the class of its schema."""
    named = {one.__name__: one for one in list_schemas()}
    made_from = named.get(str(schema.get("$ref", "")).rpartition("/")[2])
    return dict(_defined_in(inspect.getsource(made_from))) if made_from else {}


def _answer(whole: Node, problems: Mapping[str, str], status: str, given: Node) -> tuple[str, str]:
    answer = _resolved(whole, given)
    if status in problems and "$ref" in given:
        return status, problems[status]
    return status, " ".join(str(answer["description"]).split())


def _kind(whole: Node, given: Node) -> str:
    """A schema in a word or two."""
    schema = _resolved(whole, given)
    if "anyOf" in schema:
        return " or ".join(_kind(whole, one) for one in schema["anyOf"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        kind = " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(whole, schema.get('items', {}))}"
    default = schema.get("default")
    return str(kind) if default is None else f"{kind}, {json.dumps(default)} by default"


def _resolved(whole: Node, node: Node) -> Node:
    """Follow a reference inside of the document."""
    if "$ref" not in node:
        return node
    found: Any = whole
    for part in str(node["$ref"]).removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
