"""Every path of the console, with the right that it takes."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal

from aiohttp import web

from relay.console.pages import (
    activity,
    catalogue,
    cohorts,
    connector,
    erasures,
    events,
    journal,
    overview,
    parked,
    parked_export,
    plugins,
    replays,
    sign_in,
    source,
    static,
    trace,
)
from relay.console.pages.configuration import files, launches, table_form
from relay.console.security.rights import Right
from relay.console.visit import ConsoleRoute, Visit

Handle = Callable[[str, Visit], Awaitable[web.StreamResponse]]
FORMS: Final[Sequence[tuple[Literal["GET", "POST"], str, Handle, str]]] = (
    ("GET", "new", table_form.show_new, ""),
    ("POST", "new", table_form.add, "configuration"),
    ("GET", "{name}/copy", table_form.show_copy, ""),
    ("POST", "{name}/copy", table_form.add_copy, "configuration"),
    ("GET", "{name}/edit", table_form.edit, ""),
    ("POST", "{name}/edit", table_form.change, "{} {{name}}"),
)
"""The forms of a kind of tables. They come before its pages: `new` is no name of a table here."""
METHODS: Final[Sequence[Literal["GET", "POST"]]] = ("GET", "POST")
ROUTES: Final = (
    ConsoleRoute("GET", "/static/{name:.+}", static.send_file, None),
    ConsoleRoute("GET", "/sign-in", sign_in.show_form, None),
    ConsoleRoute("POST", "/sign-in", sign_in.sign_in, None),
    ConsoleRoute("GET", "/sign-in/link", sign_in.use_link, None),
    ConsoleRoute("POST", "/sign-out", sign_in.sign_out, Right.LOOK),
    ConsoleRoute("GET", "/", overview.show, Right.LOOK),
    ConsoleRoute("GET", "/live", overview.follow, Right.LOOK),
    ConsoleRoute("GET", "/rates", overview.send_rates, Right.LOOK),
    *(
        ConsoleRoute(
            method, f"/{plural}/{path}", partial(handle, kind), Right.LOOK, subject.format(kind), launches=True
        )
        for kind, plural in launches.PLURALS.items()
        for method, path, handle, subject in FORMS
    ),
    ConsoleRoute("GET", "/connectors/{name}", connector.show, Right.LOOK),
    ConsoleRoute("GET", "/connectors/{name}/live", connector.follow, Right.LOOK),
    ConsoleRoute("POST", "/connectors/{name}/pause", connector.pause, Right.STEER, "connector {name}"),
    ConsoleRoute("POST", "/connectors/{name}/resume", connector.resume, Right.STEER, "connector {name}"),
    ConsoleRoute("GET", "/connectors/{name}/forget", connector.ask_to_forget, Right.STEER),
    ConsoleRoute("POST", "/connectors/{name}/forget", connector.forget, Right.STEER, "connector {name}"),
    ConsoleRoute("GET", "/sources/{name}", source.show, Right.LOOK),
    ConsoleRoute("GET", "/sources/{name}/live", source.follow, Right.LOOK),
    ConsoleRoute("GET", "/parked", parked.show, Right.LOOK),
    ConsoleRoute("GET", "/parked/export", parked_export.export, Right.STEER),
    ConsoleRoute("GET", "/parked/confirm", parked.confirm, Right.STEER),
    ConsoleRoute("POST", "/parked/replay", parked.replay, Right.STEER, "parked events"),
    ConsoleRoute("POST", "/parked/drop", parked.drop, Right.STEER, "parked events"),
    ConsoleRoute("GET", "/parked/{number:[0-9]{1,18}}", parked.show_one, Right.LOOK),
    ConsoleRoute("GET", "/parked/{number:[0-9]{1,18}}/content", parked.download, Right.STEER),
    ConsoleRoute("GET", "/events", events.show, Right.LOOK),
    ConsoleRoute("GET", "/events/live", events.follow, Right.LOOK),
    ConsoleRoute("GET", "/trace", trace.show, Right.LOOK),
    ConsoleRoute("POST", "/trace/deliver", trace.deliver_again, Right.STEER, "replays"),
    ConsoleRoute("GET", "/replays", replays.show, Right.LOOK),
    ConsoleRoute("GET", "/replays/live", replays.follow, Right.LOOK),
    ConsoleRoute("GET", "/replays/new", replays.plan, Right.STEER),
    ConsoleRoute("POST", "/replays/start", replays.start, Right.STEER, "replays"),
    ConsoleRoute("POST", "/replays/{number:[0-9]{1,18}}/cancel", replays.cancel, Right.STEER, "replay {number}"),
    ConsoleRoute("GET", "/cohorts", cohorts.show, Right.LOOK),
    ConsoleRoute("GET", "/connectors/{name}/tables/{table}", cohorts.show_table, Right.STEER),
    ConsoleRoute("GET", "/erasures", erasures.show, Right.LOOK),
    ConsoleRoute("GET", "/erasures/live", erasures.follow, Right.LOOK),
    ConsoleRoute("POST", "/erasures/request", erasures.request, Right.STEER, "erasures"),
    ConsoleRoute("POST", "/erasures/check", erasures.check, Right.STEER),
    ConsoleRoute("GET", "/journal", journal.show, Right.LOOK),
    ConsoleRoute("GET", "/catalogue", catalogue.show, Right.LOOK),
    ConsoleRoute("GET", "/catalogue/counts", catalogue.send_counts, Right.LOOK),
    ConsoleRoute("GET", "/plugins", plugins.show, Right.LOOK),
    ConsoleRoute("GET", "/activity", activity.show, Right.LOOK),
    ConsoleRoute("GET", "/files", files.show, Right.LOOK),
    ConsoleRoute("POST", "/files/reload", files.reload, Right.CONFIGURE, "configuration"),
    ConsoleRoute("GET", "/files/show", files.show_one, Right.LOOK),
    ConsoleRoute("GET", "/files/edit", files.edit, Right.LOOK),
    ConsoleRoute("POST", "/files/edit", files.change, Right.LOOK, "configuration", launches=True),
    ConsoleRoute("GET", "/launches/{number:[0-9]{1,18}}", launches.show, Right.LOOK),
    ConsoleRoute("GET", "/launches/{number:[0-9]{1,18}}/undo", launches.undo, Right.LOOK),
    ConsoleRoute(
        "POST", "/launches/{number:[0-9]{1,18}}/undo", launches.undo, Right.LOOK, "configuration", launches=True
    ),
    *(
        ConsoleRoute(
            method,
            f"/{plural}/{{name}}/{change}",
            launches.change_table(kind, change),
            Right.LOOK,
            f"{kind} {{name}}",
            launches=True,
        )
        for kind, plural in launches.PLURALS.items()
        for change in launches.CHANGES
        for method in METHODS
    ),
)
