"""The flow of Braze's own page: a Heap connector is made by ticking boxes, and delivers exactly what was ticked.

Once with a pointer, once without a script, once by the keyboard alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from click.testing import CliRunner
from playwright.async_api import Page, expect

from relay.cli.main import relay
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.heap.webhook import HeapWebhook
from tests.browser.stage import OPEN, Stage, name_event

pytestmark = pytest.mark.asyncio(loop_scope="package")

TOKEN = "t0ken-of-heap"
CLICK, PURCHASE = "users.messages.email.Click", "users.behaviors.Purchase"
OTHER = "users.behaviors.CustomEvent"
FORM = "/connectors/new?type=heap"
ENDPOINT = "endpoint (required, unless you change mode)"
MESSAGES, PURCHASES, OPENS = "Message engagement events", "Purchase", OPEN


@pytest_asyncio.fixture(loop_scope="package")
async def heap() -> AsyncIterator[HeapWebhook]:
    async with HeapWebhook(token=TOKEN) as heap:
        yield heap


async def by_pointer(page: Page, name: str, heap: HeapWebhook) -> None:
    """Fill the form as most people do."""
    await fill(page, name, heap)
    await page.get_by_label(MESSAGES, exact=True).check()
    await page.get_by_label(f"Types below: {MESSAGES}").click()
    await page.get_by_label("Types below: Email").click()
    await page.get_by_label(OPENS, exact=True).uncheck()
    await page.get_by_label("Types below: Customer behavior events").click()
    await page.get_by_label(PURCHASES, exact=True).check()
    await page.get_by_role("button", name="Check").click()


async def without_script(page: Page, name: str, heap: HeapWebhook) -> None:
    """Fill the form in two steps: without a script, boxes follow those above after a check."""
    await fill(page, name, heap)
    await page.get_by_label(MESSAGES, exact=True).check()
    await page.get_by_label("Types below: Customer behavior events").click()
    await page.get_by_label(PURCHASES, exact=True).check()
    await page.get_by_role("button", name="Check").click()
    await page.get_by_label(f"Types below: {MESSAGES}").click()
    await page.get_by_label("Types below: Email").click()
    await page.get_by_label(OPENS, exact=True).uncheck()
    await page.get_by_role("button", name="Check").click()


async def fill(page: Page, name: str, heap: HeapWebhook) -> None:
    await page.get_by_label("name (required)", exact=True).fill(name)
    await page.get_by_label(ENDPOINT, exact=True).fill(heap.url)
    token = page.locator("fieldset").filter(has=page.locator("legend", has_text="token"))
    await token.get_by_label("where it is").select_option("paste")
    await token.get_by_label("the secret, if pasted").fill(TOKEN)


async def by_keyboard(page: Page, name: str, heap: HeapWebhook) -> None:
    """Fill the form with Tab, blanks and letters."""
    await tab_to(page, "name (required)")
    await page.keyboard.type(name)
    await tab_to(page, ENDPOINT)
    await page.keyboard.type(heap.url)
    await tab_to(page, "where it is")
    await page.keyboard.type("paste")
    await tab_to(page, "the secret, if pasted")
    await page.keyboard.type(TOKEN)
    await tab_to(page, f"Types below: {MESSAGES}")
    await page.keyboard.press("Enter")
    await tab_to(page, MESSAGES)
    await page.keyboard.press("Space")
    await tab_to(page, "Types below: Email")
    await page.keyboard.press("Enter")
    await tab_to(page, OPENS)
    await page.keyboard.press("Space")
    await tab_to(page, "Types below: Customer behavior events")
    await page.keyboard.press("Enter")
    await tab_to(page, PURCHASES)
    await page.keyboard.press("Space")
    await tab_to(page, "Check")
    await page.keyboard.press("Enter")


NAME_FOCUS = """
() => {
  const at = document.activeElement;
  return (at.ariaLabel ?? (at.labels?.[0] ?? at).textContent).trim().replace(/\\s+/g, " ");
}
"""


async def tab_to(page: Page, begin: str) -> None:
    """Press Tab until something has the focus whose text is or begins with this."""
    for _ in range(400):
        await page.keyboard.press("Tab")
        text: str = await page.evaluate(NAME_FOCUS)
        if text == begin or (begin.endswith((": ", "is", "pasted", ")")) and text.startswith(begin.strip())):
            return
    pytest.fail(f"Tab does not come to {begin}")


@pytest.mark.parametrize(
    ("name", "take_steps"),
    [
        ("pointer", by_pointer),
        pytest.param("plain", without_script, marks=pytest.mark.long),  # quicker: tests/process/test_console_forms
        pytest.param("keys", by_keyboard, marks=pytest.mark.long),  # quicker: test_pages, for the same form
    ],
)
async def test_a_heap_connector_is_launched_by_ticking_boxes(
    stage: Stage,
    heap: HeapWebhook,
    name: str,
    take_steps: Callable[[Page, str, HeapWebhook], Awaitable[None]],
) -> None:
    has_script = take_steps is not without_script
    async with stage.open_window(None, javascript=has_script) as window, window.open_page() as page:
        await page.goto(FORM)
        for label, text in (("Name", "cleo"), ("Secret", "the secret of cleo")):
            await tab_to(page, label)
            await page.keyboard.type(text)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("New connector")
        await take_steps(page, name, heap)
        secret = stage.daemon.state.absolute() / "secrets" / f"{name}-token"
        text = (
            f'# Written by the console of relay.\n[connector.{name}]\ntype = "heap"\nendpoint = "{heap.url}"\n'
            f'token = {{ file = "{secret}" }}\n'
            'events = ["message_engagement", "purchase", "!users.messages.email.Open"]\n'
        )
        diff = page.locator("#checked figure .diff")
        await expect(diff).to_contain_text("!users.messages.email.Open")
        shown = (await diff.inner_text()).splitlines()
        assert [line[1:] for line in shown if line.startswith("+")] == text.splitlines()
        assert TOKEN not in await page.content()
        await tab_to(page, "Launch")
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text(f"Connector {name}")
        await expect(page.locator("#live")).to_contain_text("is in force")
        assert (stage.daemon.conf / f"60-{name}.toml").read_text() == text
        async with CurrentsSender(f"{stage.daemon.url}/currents") as braze:
            for kind in (CLICK, OPEN, PURCHASE, OTHER):
                braze.add(kind, name_event(f"{name}-{kind}", kind))
            await braze.send()
        await stage.daemon.until(lambda: len(heap.ids), lambda found: found >= 2)
        assert heap.ids == {f"{name}-{CLICK}", f"{name}-{PURCHASE}"}
        await expect_first_delivery(page, has_script=has_script)
    await expect_agreement(stage, name)


async def expect_agreement(stage: Stage, name: str) -> None:
    """Ask the commands what is in force."""
    conf = ["--conf", str(stage.daemon.conf)]
    shown = await asyncio.to_thread(CliRunner().invoke, relay, ["config", "show", "--origin", *conf])
    assert f"60-{name}.toml:4" in shown.output
    checked = await asyncio.to_thread(CliRunner().invoke, relay, ["check", *conf])
    assert checked.exit_code == 0, checked.output


async def expect_first_delivery(page: Page, *, has_script: bool) -> None:
    """Wait until the page says what was delivered. Without a script, somebody loads the page again."""
    said = "Delivered: 2 events since the launch"
    async with asyncio.timeout(30):
        while not has_script and said not in await page.locator("#live").inner_text():
            await page.reload()
    await expect(page.locator("#live")).to_contain_text(said)
