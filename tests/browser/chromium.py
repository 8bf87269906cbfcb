"""Debian's Chromium, as tests drive it: off the network, and with every offence of a page kept."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError, async_playwright

from tests.missing import give_up

FLAGS = ("--no-sandbox", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
"""Neither root nor most containers can have the sandbox of Chromium."""
NOTE_CSP = """
document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`));
"""


def find_chromium() -> str:
    """Return the path of Chromium. Without it, give up the test."""
    return shutil.which("chromium") or give_up("no test meets the console in a browser: apt install chromium")


@asynccontextmanager
async def run_chromium() -> AsyncIterator[Browser]:
    """Run a browser."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@dataclass
class Window:
    """A window of the browser, with cookies of its own and what its pages have done that no page may do."""

    url: str
    context: BrowserContext
    offences: list[str] = field(default_factory=list)
    _pages: list[Page] = field(default_factory=list)
    """The page that was open last, and shows nothing now."""

    def __post_init__(self) -> None:
        self.context.on("weberror", self._keep_error)
        self.context.on("console", self._keep_message)
        self.context.on("request", self._keep_request)

    @asynccontextmanager
    async def open_page(self) -> AsyncIterator[Page]:
        """Open a page. Fails at the end if the page had a script error, broke the policy or asked another host.

        A page that has passed is used again: a new one takes a process of the browser.
        """
        page = self._pages.pop() if self._pages else await self.context.new_page()
        self.offences.clear()
        yield page
        await page.evaluate("0")  # what the page has done is known by now
        offences = [*self.offences]
        await page.goto("about:blank")  # what its end interrupts is no offence
        self._pages.append(page)
        assert offences == []

    def _keep_error(self, error: WebError) -> None:
        self.offences.append(f"script error: {error.error}")

    def _keep_message(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):  # an answer of 4xx
            self.offences.append(f"{message.text} {message.location}")

    def _keep_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:")):
            self.offences.append(f"request to {request.url}")


@asynccontextmanager
async def open_window(
    browser: Browser, url: str, cookies: Mapping[str, str], *, javascript: bool = True
) -> AsyncIterator[Window]:
    """Open a window at the console of a URL."""
    context = await browser.new_context(base_url=url, java_script_enabled=javascript, service_workers="block")
    await context.add_init_script(NOTE_CSP)
    await context.add_cookies([{"name": name, "value": value, "url": url} for name, value in cookies.items()])
    yield Window(url, context)
    await context.close()
