"""The stage of all tests in a browser, and a page of it for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.chromium import Window, run_chromium
from tests.browser.stage import Stage, set_stage
from tests.forks import Forks

expect.set_options(timeout=30_000)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def stage(tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks) -> AsyncIterator[Stage]:
    """Run one browser, one relay and one console for all tests."""
    async with (
        run_chromium() as browser,
        set_stage(tmp_path_factory.mktemp("stage"), relay_forks, browser) as stage,
    ):
        yield stage


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def window(stage: Stage) -> AsyncIterator[Window]:
    """The window of a user who may do everything. Its pages share the files that they have loaded."""
    async with stage.open_window("cleo") as window:
        yield window


@pytest_asyncio.fixture(loop_scope="package")
async def page(window: Window) -> AsyncIterator[Page]:
    """A page of a user who may do everything."""
    async with window.open_page() as page:
        yield page
