"""Every page of the console in a browser: to screen readers, in light and dark, enlarged, and by keyboard."""

import re

import pytest
from playwright.async_api import Page, expect

from relay.console.routes import ROUTES
from tests.browser.everybody import check_everybody
from tests.browser.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")

PAGES = {
    "/": "/",
    "/connectors/{name}": "/connectors/hook",
    "/sources/{name}": "/sources/braze",
    "/parked": "/parked",
    "/parked/confirm": "/parked/confirm?which=&act=drop",
    "/parked/{number:[0-9]{1,18}}": "/parked/{parked}",
    "/events": "/events",
    "/trace": "/trace?id=evil",
    "/replays": "/replays",
    "/replays/new": "/replays/new?connector=hook&rate=",
    "/cohorts": "/cohorts",
    "/connectors/{name}/tables/{table}": "/connectors/cohorts/tables/members?cohort=42",
    "/erasures": "/erasures",
    "/journal": "/journal?read=types",
    "/catalogue": "/catalogue?count=1",
    "/plugins": "/plugins",
    "/activity": "/activity",
    "/files": "/files",
    "/files/show": "/files/show?path={conf}/20-stage.toml",
    "/files/edit": "/files/edit?name=70-empty.toml",
    "/launches/{number:[0-9]{1,18}}": "/launches/1",
    "/launches/{number:[0-9]{1,18}}/undo": "/launches/1/undo",
    "/sources/new": "/sources/new",
    "/connectors/new": "/connectors/new?type=heap",
    "/filters/new": "/filters/new?type=hash",
    "/alerts/new": "/alerts/new?type=webhook",
    "/connectors/{name}/edit": "/connectors/hook/edit",
    "/connectors/{name}/forget": "/connectors/old/forget",
    "/connectors/{name}/switch-off": "/connectors/hook/switch-off",
    "/connectors/{name}/remove": "/connectors/hook/remove",
}
"""Each page, with a path that shows as much as possible of it."""
ALIKE = {
    "/sources/new",
    "/filters/new",
    "/alerts/new",
    "/connectors/{name}/edit",
    "/connectors/{name}/forget",
    "/connectors/{name}/remove",
    "/launches/{number:[0-9]{1,18}}/undo",
    "/replays/new",
    "/files/show",
    "/connectors/{name}/tables/{table}",
}
"""Pages with the parts of other pages: the form of /connectors/new, the question of .../switch-off, tables."""
REFUSED = "/connectors/hook/remove"
"""A page that shows a refusal: a person has written the table."""
KINDS = ("sources", "connectors", "filters", "alerts")
OTHERS = {
    "/sign-in",
    "/static/{name:.+}",
    "/sign-in/link",
    "/live",
    "/rates",
    "/catalogue/counts",
    "/connectors/{name}/live",
    "/sources/{name}/live",
    "/events/live",
    "/replays/live",
    "/erasures/live",
    "/parked/{number:[0-9]{1,18}}/content",
    "/parked/export",
    *(f"/{kind}/{{name}}/{act}" for kind in KINDS for act in ("edit", "copy", "switch-off", "switch-on", "remove")),
} - PAGES.keys()
"""The page to sign in; files, streams, figures and downloads; and pages of the same code and template as one above."""


READ_ROW = """
() => {
  const names = document.querySelector("header nav ul"), tops = [...names.children].map((one) => one.offsetTop);
  return { rows: new Set(tops).size, rolls: names.scrollHeight > names.clientHeight };
}
"""


async def test_every_page_is_visited() -> None:
    assert {route.path for route in ROUTES if route.method == "GET"} == PAGES.keys() | OTHERS


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.long] * (page in ALIKE)) for page, path in PAGES.items()]
)
async def test_every_page_can_be_used_by_everybody(page: Page, stage: Stage, path: str) -> None:
    answer = await page.goto(path.format(parked=stage.parked, conf=stage.daemon.conf))
    assert answer
    assert answer.ok != (path == REFUSED), f"the answer is {answer.status}"
    await expect(page.locator("h1")).to_be_visible()
    await check_everybody(page)


async def test_the_page_to_sign_in_can_be_used_by_everybody(stage: Stage) -> None:
    async with stage.open_window(None) as window, window.open_page() as page:
        await page.goto("/activity")
        await expect(page.get_by_label("Secret")).to_be_visible()
        await check_everybody(page)


async def test_the_names_of_the_pages_are_one_row_at_every_width(page: Page) -> None:
    await page.goto("/")
    for width in (420, 1200, 1600):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate(READ_ROW) == {"rows": 1, "rolls": False}, width


async def test_a_time_stands_once_where_the_browser_has_utc(page: Page) -> None:
    zone = await page.context.new_cdp_session(page)
    for name, text in (("Asia/Tokyo", r"(AM|PM) \(\d{4}-\d\d-\d\d \S+ UTC\)$"), ("UTC", r"^\d{4}-\d\d-\d\d \S+ UTC$")):
        await zone.send("Emulation.setTimezoneOverride", {"timezoneId": name})
        await page.goto("/activity")
        await expect(page.locator("time[data-local]").first).to_have_text(re.compile(text))
    await zone.send("Emulation.setTimezoneOverride", {"timezoneId": ""})
    await zone.detach()
