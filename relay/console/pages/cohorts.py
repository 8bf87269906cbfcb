"""Cohorts, and the other tables that connectors show of what they keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.rights import Right
from relay.console.visit import Visit

COHORTS, MEMBERS = "cohorts", "members"
"""The tables of a connector that keeps cohorts."""
QUOTING: Final = "last refusal"
"""A column that may quote ids of users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTable:
    """A page of a table."""

    connector: str
    name: str
    doc: str
    columns: Sequence[Mapping[str, str]]
    where: Sequence[str]
    """The columns by which rows can be selected."""
    rows: Sequence[Sequence[Any]]
    next: str
    """The query of the next page; "": this is the last page."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the cohorts of every connector that keeps some, and the other tables of connectors."""
    seen = (await visit.console.relay.read()).status
    if seen is None:
        raise ConsoleRefusal(502, "relay does not answer, and so does not say which connectors run")
    pages, others = [], []
    for name in sorted(lane.connector for lane in seen.lanes):
        for table in await visit.ask("GET", _name_path(name)):
            if table["name"] == COHORTS:
                pages.append(_hide(visit, await _read(visit, name, table, {})))
            elif table["name"] != MEMBERS:
                others.append((name, table))
    return visit.show("cohorts.html", pages=pages, others=others, quote=quote)


async def show_table(visit: Visit) -> web.StreamResponse:
    """Show a page of a table, with the rows that are asked for."""
    connector, wanted = visit.request.match_info["name"], visit.request.match_info["table"]
    tables = {one["name"]: one for one in await visit.ask("GET", _name_path(connector))}
    if wanted not in tables:
        raise ConsoleRefusal(404, "the connector has no such table")
    given = {name: value.strip() for name, value in visit.request.query.items() if value.strip()}
    table, shown, problem = tables[wanted], None, ""
    try:
        shown = await _read(visit, connector, table, given)
    except ConsoleRefusal as refusal:  # such as a table that wants to know which rows
        problem = refusal.reason
    return visit.show("table.html", shown=shown, problem=problem, connector=connector, table=table, given=given)


async def _read(visit: Visit, connector: str, table: Mapping[str, Any], given: Mapping[str, str]) -> ShownTable:
    conditions = [("where", f"{name}={given[name]}") for name in table["where"] if name in given]
    query = urlencode([*conditions, *((name, given[name]) for name in ("after", "worker") if name in given)])
    answer = await visit.ask("GET", f"{_name_path(connector)}/{quote(table['name'], safe='')}?{query}")
    following = urlencode({**given, "after": answer["after"]}) if answer["after"] else ""
    about = {name: table[name] for name in ("name", "doc", "columns", "where")}
    return ShownTable(connector=connector, rows=answer["rows"], next=following, **about)


def _hide(visit: Visit, page: ShownTable) -> ShownTable:
    """Return a page without what quotes users, unless the user may see content."""
    if visit.right is not None and visit.right >= Right.STEER:
        return page
    kept = [number for number, column in enumerate(page.columns) if column["name"] != QUOTING]
    rows = [[row[number] for number in kept] for row in page.rows]
    return ShownTable(
        connector=page.connector, name=page.name, doc=page.doc, where=page.where, next=page.next,
        columns=[page.columns[number] for number in kept], rows=rows,
    )  # fmt: skip


def _name_path(connector: str) -> str:
    return f"/lanes/{quote(connector, safe='')}/tables"
