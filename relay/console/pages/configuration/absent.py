"""What a page says of a connector or source that relay does not run."""

from urllib.parse import quote, urlencode

from relay.console.pages.configuration.files import read_view
from relay.console.pages.configuration.launches import PLURALS
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit


async def explain_absence(visit: Visit, kind: str, name: str) -> ConsoleRefusal:
    """Return the refusal (404) of the page of a table that is not in force: why, and where to go on."""
    view = await read_view(visit)
    table, path = view.get(kind, name), f"/{PLURALS[kind]}/{quote(name, safe='')}"
    links = [(f"/activity?{urlencode({'subject': f'{kind} {name}'})}", "What happened to it")]
    if table is None:
        reason = f"conf.d has no such {kind}: somebody removed it, or has undone its launch"
    elif table.get("enabled") is False:
        reason = f"this {kind} is switched off, at {view.find_place(kind, name, 'enabled')}"
        links = [(f"{path}/switch-on", "Switch it on"), (f"{path}/edit", "Edit it"), *links]
    else:
        reason = f"relay does not run this {kind}, though conf.d has it at {view.find_place(kind, name)}"
        links = [(f"{path}/edit", "Edit it"), *links]
    return ConsoleRefusal(404, reason, links=links)
