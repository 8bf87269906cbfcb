"""What users do in the browser, each once against the real thing, with who did it in the history."""

import asyncio
from contextlib import suppress

import pytest
from playwright.async_api import Page, expect

from tests.browser.stage import EVIL, Stage, name_event
from tests.process.commands import ask_replay

pytestmark = pytest.mark.asyncio(loop_scope="package")

MANY = 12_000
SEND = "users.messages.email.Send"


async def expect_entry(page: Page, kind: str, said: str) -> None:
    """Look into the history for what cleo did last of a kind. relay may write an entry after its answer."""
    row = page.get_by_role("row").nth(1)
    async with asyncio.timeout(30):
        while True:
            await page.goto(f"/activity?kind={kind}")
            if said in (shown := await row.inner_text()) and "cleo" in shown:
                return


async def test_a_connector_is_paused_and_resumed(page: Page, stage: Stage) -> None:
    await page.goto("/connectors/hook")
    await page.get_by_label("How long").select_option("for 1 hour")
    await page.get_by_role("button", name="Pause", exact=True).click()
    await expect(page.locator("#live")).to_contain_text("paused since")
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#live")).not_to_contain_text("paused since")
    await expect_entry(page, "paused", "hook")
    await expect_entry(page, "resumed", "hook")


async def test_a_parked_event_is_looked_at_and_replayed(page: Page, stage: Stage) -> None:
    (number,) = await stage.park(name_event("comes-back", evil=EVIL))
    await page.goto("/parked")
    await page.locator(f"a[href='/parked/{number}']").click()
    await expect(page.get_by_role("heading", name="Content")).to_be_visible()
    await expect(page.locator(".content")).to_contain_text("<script>document.title='ran'</script>")
    await expect(page.get_by_text("status 400")).to_be_visible()
    await page.get_by_role("button", name="Replay this event").click()
    await page.get_by_role("button", name="Replay 1 parked event").click()
    await expect(page.get_by_role("status")).to_contain_text("1 parked event to be delivered once more")
    assert await page.title() == "Parked - relay"
    ids = lambda: [one.get("id") for one in stage.hook.events()]  # noqa: E731
    await stage.daemon.until(ids, lambda found: "comes-back" in found)
    await expect_entry(page, "parked_replayed", "1 parked event")


async def test_all_that_a_filter_matches_is_dropped_of_which_few_are_in_view(page: Page, stage: Stage) -> None:
    kept = {one.number for one in stage.daemon.parked()}
    for _ in range(MANY // 1000):
        await stage.send(*[b"1"] * 1000)
    await stage.daemon.until(stage.daemon.parked, lambda found: len(found) == len(kept) + MANY)
    await page.goto("/parked?cause=unreadable")
    await expect(page.get_by_label("Tick ")).to_have_count(50)
    await page.get_by_role("button", name="Drop everything that the filter matches").click()
    await page.get_by_role("button", name=f"Drop {MANY:,} parked events").click()
    await expect(page.get_by_role("status")).to_contain_text(f"{MANY:,} parked events removed for good")
    assert {one.number for one in stage.daemon.parked()} == kept
    await expect_entry(page, "parked_dropped", f"{MANY:,} parked events")


async def test_an_event_is_seen_as_it_passes_and_traced(page: Page, stage: Stage) -> None:
    await page.goto(f"/events?at=hook&events={SEND}")
    row = page.get_by_role("row").filter(has_text="passes-by")
    async with asyncio.timeout(30):
        while not await row.count():  # relay follows soon after the page was opened
            await stage.send(name_event("passes-by", SEND, evil=EVIL))
            with suppress(AssertionError):
                await expect(row.first).to_be_visible(timeout=1000)
    await expect(row.first).to_contain_text("<script>document.title='ran'</script>")
    hold = page.get_by_role("button", name="Hold")
    await hold.click()
    await expect(hold).to_have_attribute("aria-pressed", "true")
    await row.first.get_by_role("link", name="passes-by").click()
    await expect(page.get_by_role("heading", name=SEND).first).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="hook").first).to_contain_text('wanted by "email"')
    assert await page.title() == "Trace - relay"


async def test_a_replay_shows_its_progress_and_is_cancelled(page: Page, stage: Stage) -> None:
    await page.goto("/replays")
    number = await ask_replay(stage.daemon, 0, 1)
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=str(number), exact=True))
    await expect(row).to_contain_text("done")
    await page.goto("/replays/new")
    await page.get_by_label("Connector").select_option("hook")
    await page.get_by_label("Events per second at most").fill("0.01")
    await page.get_by_role("button", name="Count").click()
    await page.get_by_role("button", name="Start the replay of").click()
    bar = page.get_by_role("progressbar")
    await expect(bar).to_be_visible()
    await page.get_by_role("button", name="Cancel replay").first.click()
    await expect(bar).to_be_hidden()
    await expect_entry(page, "replay_cancelled", "was ended where it was")
    await expect_entry(page, "replay_started", "hook")


async def test_a_user_is_erased_by_an_id_that_is_typed_twice(page: Page, stage: Stage) -> None:
    await page.goto("/erasures")
    form = page.locator("form[action='/erasures/request']")
    await form.get_by_label("Id", exact=True).fill("anna-17")
    await form.get_by_label("The same id again").fill("anna-17")
    await form.get_by_role("button").click()
    row = page.get_by_role("row").filter(has_text="cleo").first
    await expect(row).to_contain_text("waiting")
    await expect(page.locator("#live")).to_contain_text("relay cannot take a request back")
    await stage.place.put("72-erasure.toml", '[erasure]\nafter = "1ms"\n')
    await expect(row).to_contain_text("done")
    await expect_entry(page, "erasure_requested", "cleo")


async def test_a_member_of_a_cohort_is_found(page: Page, stage: Stage) -> None:
    await page.goto("/cohorts")
    await expect(page.get_by_role("row").filter(has_text="Lost carts")).to_contain_text("2")
    await page.get_by_label("Cohorts of a member").fill("external_id:user-1")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("row").filter(has_text="external_id:user-1")).to_contain_text("42")


async def test_the_only_type_of_a_connector_follows_the_box_for_all_events(page: Page, stage: Stage) -> None:
    await page.goto("/connectors/cohorts/edit")
    every, only = page.get_by_role("checkbox", name="All events"), page.get_by_label("cohort.Change")
    await page.get_by_label("Types below: Types that are not in the catalogue").click()
    await expect(every).to_be_checked()
    await only.uncheck()
    await expect(every).not_to_be_checked()
    await every.check()
    await expect(only).to_be_checked()
    await page.get_by_role("button", name="Check").click()
    await expect(page.get_by_text("Nothing changes.")).to_be_visible()


@pytest.mark.long  # quicker: test_console_forms and test_console_launch in tests/process
async def test_a_change_of_a_file_of_a_person_is_undone(page: Page, stage: Stage) -> None:
    path = stage.daemon.conf / "20-stage.toml"
    before = path.read_bytes()
    await page.goto("/connectors/hook/edit")
    await page.get_by_text("Settings that every connector has").click()
    await page.get_by_label("rate", exact=True).fill("50")
    await page.get_by_role("button", name="Check").click()
    await page.get_by_role("button", name="Launch").click()
    await expect(page.locator("#live")).to_contain_text("is in force")
    drop_in = stage.daemon.conf / "20-stage.toml.d" / "50-console.toml"
    assert "rate = 50" in drop_in.read_text()
    assert path.read_bytes() == before
    await expect(page.get_by_role("row").filter(has_text="50-console.toml")).to_contain_text("rate")
    await page.locator("#live").get_by_role("link", name="Launch").click()
    await page.get_by_role("link", name="Undo").click()
    await page.get_by_role("button", name="Undo launch").click()
    await expect(page.get_by_text("relay has reloaded")).to_be_visible()
    assert not drop_in.exists()
    assert path.read_bytes() == before
    await expect_entry(page, "reloaded", "connector hook")
    launches = page.get_by_role("table").last.get_by_role("row").filter(has_text="50-console.toml")
    await expect(launches).to_have_count(2)
    await expect(launches.first).to_contain_text("cleo")
    await expect(launches.last).to_contain_text("undone by launch")
