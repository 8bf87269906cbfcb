"""The tables of connectors over the admin API: what a connector shows of its store."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct, field

from relay.admin.control import Control
from relay.admin.responses import convert_content, make_answer
from relay.api import AdminTable, StoreError, TableQuery, TableRow
from relay.engine import use_plugin_stores
from relay.guests import contained, find_reason
from relay.threads import ADMIN

READ_S: Final = 10.0
"""Seconds that a page may take."""


class TablePage(Struct, frozen=True, kw_only=True):
    """A page of a table that an admin asks for."""

    after: str = ""
    """The `after` of the answer before."""
    where: Sequence[str] = field(default_factory=tuple)
    """COLUMN=VALUE each."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    worker: Annotated[int, msgspec.Meta(ge=0)] = 0


class TableHandlers:
    """The handlers of tables."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._journal = control.config.journal  # for good: a new place takes a restart

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/lanes/{connector}/tables", self.list_tables),
            web.get("/lanes/{connector}/tables/{table}", self.read_table),
        ]

    async def list_tables(self, request: web.Request) -> web.StreamResponse:
        """Answer with the tables of a connector."""
        return make_answer([_describe(table) for table in self._find_tables(request).values()])

    async def read_table(self, request: web.Request) -> web.StreamResponse:
        """Answer with a page of a table."""
        tables, wanted = self._find_tables(request), request.match_info["table"]
        if wanted not in tables:
            raise LookupError(f"there is no table {wanted}; tables: {', '.join(tables) or 'none'}")
        query: dict[str, Any] = {name: request.query[name] for name in request.query}
        page = convert_content(query | {"where": request.query.getall("where", [])}, TablePage)
        given = TableQuery(_parse_conditions(page.where, tables[wanted]), page.after)
        connector = request.match_info["connector"]
        try:
            async with asyncio.timeout(READ_S):
                rows = await ADMIN.run(self._read, connector, tables[wanted], given, page.worker, page.limit + 1)
        except TimeoutError:
            raise OSError(f"the table was not read within {READ_S:g} s") from None
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        return make_answer({"rows": [row.cells for row in rows], "after": rows[-1].key if more else None})

    def _find_tables(self, request: web.Request) -> Mapping[str, AdminTable]:
        config, connector = self._control.config, request.match_info["connector"]
        config.get_connector(connector)
        return {table.name: table for table in config.connectors[connector].plugin.tables}

    def _read(
        self, connector: str, table: AdminTable, query: TableQuery, worker: int, limit: int
    ) -> Sequence[TableRow]:
        """Read rows; none if the connector has no store yet. Raises OSError, ValueError."""
        kind = self._control.config.connectors[connector].plugin.type
        with use_plugin_stores(self._control.folder, self._journal) as stores:
            if connector not in stores.list_connectors(kind, worker=worker):
                return []
            with stores.read(kind, connector, worker=worker) as reader:
                try:
                    with contained():
                        rows = [TableRow(*row) for row in islice(table.read(reader, query), limit)]
                except (StoreError, ValueError):
                    raise
                except Exception as error:  # a plugin's own code
                    raise OSError(f"the table {table.name} cannot be read: {find_reason(error)}") from error
        if any(len(row.cells) != len(table.columns) for row in rows):
            raise OSError(f"the table {table.name} cannot be read: its rows have not as many cells as columns")
        if any(not isinstance(cell, str | int | float | None) for row in rows for cell in row.cells):
            raise OSError(f"the table {table.name} cannot be read: a cell is no text, number, true, false or None")
        return rows


def _describe(table: AdminTable) -> Mapping[str, object]:
    return {"name": table.name, "doc": table.doc, "columns": table.columns, "where": table.where}


def _parse_conditions(given: Sequence[str], table: AdminTable) -> Mapping[str, str]:
    """Return the conditions by column. Raises ValueError."""
    found = {}
    for one in given:
        column, equals, value = one.partition("=")
        if not equals or column not in table.where:
            known = ", ".join(f"{name}=VALUE" for name in table.where) or "none"
            raise ValueError(f"where={one} is not known here; known: {known}")
        found[column] = value
    return found
