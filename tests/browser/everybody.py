"""Checks of a page as it is shown: to screen readers, in light and dark, enlarged, and by keyboard."""

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, ViewportSize

LARGE = ViewportSize(width=1280, height=1024)
ENLARGED = ViewportSize(width=640, height=512)
"""What is left of LARGE at 200 %."""
PHONE = ViewportSize(width=375, height=812)
RUN_AXE = """
async (options) => {
  const cheap = { resultTypes: ["violations"], selectors: false };
  const found = await axe.run({ ...cheap, ...options });
  return found.violations.map((one) => [one.help, one.nodes.map((node) => node.html)]);
}
"""
"""Describes nothing but the violations: most of the time went into what passes."""
FIND_HIDDEN = """
() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.width || !box.height || box.right <= innerWidth + 1 || one.matches(".skip")) return false;
  for (let above = one.parentElement; above; above = above.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(above).overflowX)) return false;
  return true;
}).map((one) => one.outerHTML.slice(0, 200))
"""
"""What is beyond the right edge and cannot be scrolled to by itself."""
FIND_THIN = """
() => [...document.querySelectorAll("td, th")].filter((one) => {
  const text = document.createRange(), line = parseFloat(getComputedStyle(one).lineHeight);
  text.selectNodeContents(one);
  const box = text.getBoundingClientRect();
  return box.width < 4 * line && box.height > 5 * line;
}).map((one) => one.outerHTML.slice(0, 200))
"""
"""Cells with a few letters a line."""
PREPARE = """
document.addEventListener("htmx:sse:before:message", (event) => event.preventDefault());
const rows = "tbody tr:nth-child(n+5), details li:nth-child(n+3), details:nth-of-type(n+5)";
const branches = ".branch .branch:nth-child(n+4)";
for (const one of document.querySelectorAll(`${rows}, ${branches}`)) one.remove();
for (const one of document.querySelectorAll("details")) one.open = true;
"""
"""Holds the page, since a live message brings rows and links of its own. Opens what is folded. Rows of a long table are
alike, and so are boxes of events: the first are enough."""
SETTLE = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""A script that follows the width of the page, such as the chart's, does so with the next frame."""
LIST_ACTIONS = """
() => {
  const chosen = (one) => one.type !== "radio" || one.checked;
  const seen = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled && chosen(one);
  const actions = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  window.actions = [...document.querySelectorAll(actions)].filter(seen);
  document.body.focus();
  return window.actions.length;
}
"""
DESCRIBE_FOCUS = """
() => {
  const at = document.activeElement, style = getComputedStyle(at);
  const has_outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const said = at.outerHTML.slice(0, 200);
  return { number: window.actions.indexOf(at), shown: has_outline || style.boxShadow !== "none", said };
}
"""


async def check_everybody(page: Page) -> None:
    """Try the page in all ways."""
    await page.evaluate(PREPARE)
    await page.evaluate(Axe().axe_script)
    await page.emulate_media(color_scheme="light", reduced_motion="reduce")
    assert await page.evaluate(RUN_AXE, {}) == []
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate(RUN_AXE, {"runOnly": ["color-contrast"]}) == [], "in the dark, where only colors differ"
    for size in (ENLARGED, PHONE):
        await page.set_viewport_size(size)
        await page.evaluate(SETTLE)
        assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert await page.evaluate(FIND_HIDDEN) == []
        thin = await page.evaluate(FIND_THIN)
        assert thin == [], thin
    await page.set_viewport_size(LARGE)
    await check_keyboard(page)


async def check_keyboard(page: Page) -> None:
    """Reach everything by Tab in its order, and see where the focus is."""
    number = await page.evaluate(LIST_ACTIONS)
    assert number
    reached = -1
    while reached < number - 1:
        await page.keyboard.press("Tab")
        focus = await page.evaluate(DESCRIBE_FOCUS)
        if focus["number"] == reached:
            continue  # a date has more than one stop
        assert focus["number"] == reached + 1, focus["said"]
        assert focus["shown"], f"the focus is not to be seen: {focus['said']}"
        reached = focus["number"]
