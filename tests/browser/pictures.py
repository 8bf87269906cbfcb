"""Takes the pictures of the console for the README, from a demo that runs: `python -m tests.browser.pictures`."""

import asyncio
import re
import signal
import sys
from pathlib import Path
from typing import Final

from playwright.async_api import Page, ViewportSize

from tests.browser.chromium import run_chromium

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
SIZE: Final = ViewportSize(width=1200, height=900)
COMMAND: Final = (sys.executable, "-m", "relay", "sandbox", "--console")
POINTS: Final = 20
"""Points of the chart, of 10 seconds each: with fewer the chart looks empty."""
TICKED: Final = "Message engagement events"


async def main() -> None:
    """Run the demo, sign in, and take the pictures."""
    demo = await asyncio.create_subprocess_exec(*COMMAND, stdout=asyncio.subprocess.PIPE)
    try:
        await take_all(demo)
    finally:
        demo.send_signal(signal.SIGINT)
        await demo.wait()


async def take_all(demo: asyncio.subprocess.Process) -> None:
    assert demo.stdout is not None
    said = (await demo.stdout.readuntil(b"Ctrl-C")).decode()
    found = re.search(r"Open (\S+) and sign in as (\S+) with the secret (\S+)\n", said)
    assert found, said
    FOLDER.mkdir(exist_ok=True)
    async with run_chromium() as browser:
        page = await browser.new_page(viewport=SIZE, base_url=found[1], color_scheme="light")
        await page.goto("/")
        await page.get_by_label("Name").fill(found[2])
        await page.get_by_label("Secret").fill(found[3])
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Overview").wait_for()
        await take_form(page)
        await take_overview(page)


async def take_overview(page: Page) -> None:
    while len((await (await page.request.get("/rates")).json())[0]) < POINTS:
        await asyncio.sleep(1)
    await page.goto("/")
    await page.get_by_role("heading", name="Sources and connectors").wait_for()
    await page.locator("#chart canvas").wait_for()
    await page.screenshot(path=FOLDER / "overview.png", full_page=True)


async def take_form(page: Page) -> None:
    await page.goto("/connectors/new?type=heap")
    await page.get_by_label(TICKED, exact=True).check()
    await page.get_by_label(f"Types below: {TICKED}").click()
    await page.get_by_label("name (required)", exact=True).fill("heap-of-the-shop")
    await page.get_by_text("in the last 24 hours").first.wait_for(state="attached")
    await page.evaluate("document.querySelector('fieldset:has(#ticks)').scrollIntoView()")
    await page.screenshot(path=FOLDER / "new-connector.png")


asyncio.run(main())
