"""docs/reference/admin-api.md: what the admin API and the ingest listener answer, in short, from their OpenAPI."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from relay.admin.openapi import render_contract
from tests.docs.generate.markdown import code, document, table

ROOT: Final = Path(__file__).parents[3]
INTRO: Final = """
This page lists the requests that relay answers: those of admins, and those of senders. The commands use the same API.

```sh
curl --unix-socket /var/lib/relay/admin.sock http://relay/status                            # as root, without a token
curl -H "Authorization: Bearer $RELAY_ADMIN_TOKEN" http://127.0.0.1:8081/status         # at admin.listen
curl --unix-socket /var/lib/relay/admin.sock -X POST http://relay/lanes/heap/pause          # as `relay pause heap`
```

- The unix socket needs no token: file rights protect the socket. An address of `admin.listen` takes one of
  `admin.tokens` ([`[admin]`](configuration.md#admin)).
- Times are Unix seconds. Counts are since the start, if a text says nothing else. The outcomes of a connector are since
  its first run.
- An error has the form of RFC 9457: `title`, `status`, and `detail` with the reason.
- `GET /openapi.yaml` is the whole description, with every field of every answer. Both listeners have theirs.
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
    yield from _paths(admin, admin["paths"])
    yield "## Ingest"
    yield SENDERS
    items = ingest["components"]["pathItems"]
    own = {
        "source": "PATH",
        "challengedSource": "PATH of a source that answers challenges",
        "heap_segments": "PATH of a source of type heap_segments",
    }
    yield from _paths(ingest, {own[name]: item for name, item in items.items()})
    yield from _paths(ingest, ingest["paths"])


def _paths(whole: Node, paths: Node) -> Iterator[str]:
    for path, item in paths.items():
        for method in ("get", "post", "delete"):
            if (operation := item.get(method)) is not None:
                yield f"### {method.upper()} {path}"
                yield f"{operation['summary'].rstrip('.')}."
                if about := operation.get("description"):
                    yield " ".join(about.split())
                yield from _parameters(whole, [*item.get("parameters", ()), *operation.get("parameters", ())])
                yield from _body(whole, operation)
                yield table(["answer", ""], [_answer(whole, *one) for one in operation["responses"].items()])


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
    schema = _resolved(whole, content.get("schema") or {}) if isinstance(content.get("schema"), dict) else {}
    if fields := schema.get("properties"):
        required = schema.get("required", ())
        rows = [
            (code(name), _kind(whole, one), "required" if name in required else "", one.get("description", ""))
            for name, one in ((name, _resolved(whole, each)) for name, each in fields.items())
        ]
        yield table(["field of the body", "kind", "", "meaning"], rows)


def _answer(whole: Node, status: str, given: Node) -> tuple[str, str]:
    answer = _resolved(whole, given)
    if status in PROBLEMS and "$ref" in given:
        return status, PROBLEMS[status]
    return status, " ".join(str(answer["description"]).split())


def _kind(whole: Node, given: Node) -> str:
    """A schema in a word or two."""
    schema = _resolved(whole, given)
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        kind = " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(whole, schema.get('items', {}))}"
    return f"{kind}, {schema['default']} by default" if "default" in schema else str(kind)


def _resolved(whole: Node, node: Node) -> Node:
    """Follow a reference inside of the document."""
    if "$ref" not in node:
        return node
    found: Any = whole
    for part in str(node["$ref"]).removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
