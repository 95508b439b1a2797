"""Each page of the dashboard in a real browser, with workers: its contents, and that everyone can read it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from browser.replay import PAGES
from browser.shop import EVERYBODY

WIDTHS = (390, 1024, 1920)
SERIOUS = ("serious", "critical")


async def _is_readable(browser: Any, page: Any, path: str, text: str) -> list[str]:
    """Return the problems of a page: parts outside the screen, and the findings of axe."""
    from axe_playwright_python.async_playwright import Axe

    await browser.go(page, path)
    await page.get_by_text(text).first.wait_for()
    found = []
    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("is wider than the screen")
    told = await Axe().run(page, options={"resultTypes": ["violations"]})
    for each in told.response["violations"]:
        if each["impact"] in SERIOUS:
            found.append(f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}")
    return found


@pytest.mark.long
def test_each_page_is_readable(shop: Any, visit: Any) -> None:
    """At three widths, light and dark: it shows the data, fits, and axe-core finds nothing serious."""

    async def look(browser: Any) -> None:
        wrong: dict[str, list[str]] = {}
        for number, width in enumerate(WIDTHS):
            page = await browser.page(width=width, scheme="dark" if number % 2 else "light")
            for path, text in PAGES.items():
                if found := await _is_readable(browser, page, path, text):
                    wrong[f"{path} at {width}"] = found
            await page.close()
        assert wrong == {}

    visit(shop(*EVERYBODY), look)


def test_many_windows(shop: Any, visit: Any) -> None:
    """A browser has six connections per host: eight windows still work, and every request is answered."""

    async def look(browser: Any) -> None:
        paths = [*(f"service/{name}" for name in ("orders", "customers")), *["events"] * 4, "overview", "dead"]
        windows = await browser.windows(len(paths))
        for page, path in zip(windows, paths, strict=True):
            await browser.go(page, path)
        asked = "fetch('/api/about').then((answer) => answer.json()).then((told) => told.actions)"
        assert await asyncio.gather(*(page.evaluate(asked) for page in windows)) == [True] * len(paths)
        for page in windows[2:6]:
            await page.locator("#tail .event").first.wait_for()
        for page in windows[1:]:
            await page.close()
        await browser.go(windows[0], "events")
        await windows[0].locator("#tail .event").first.wait_for()

    visit(shop("customers", "orders", "web"), look)


LATE = "const now = performance.now.bind(performance); let by = 0; performance.now = () => now() + (by += 1000);"
"""Lets each look at the clock find that a second has passed, as on a machine that is busy with something else."""


@pytest.mark.parametrize("path", ["events", "apis", "overview"])
def test_busy_machine(shop: Any, visit: Any, path: str) -> None:
    """A frame has never enough time to draw a page: it is drawn nevertheless, a part in each frame."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await page.add_init_script(LATE)
        await browser.go(page, path)
        if path == "events":
            await page.locator("#tail .event").first.wait_for()
        await page.locator("#main[aria-busy=false]").wait_for()

    visit(shop("customers", "orders", "web"), look)


def test_empty_bus(shop: Any, visit: Any) -> None:
    """Each page says so, and the first one what to do; new peers appear without a reload."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        for path in ("apis", "events", "groups", "dead", "peers", "journals", "service/nobody", "apis/nothing"):
            await browser.go(page, path)
        await browser.go(page, "service/cut%2")
        await page.get_by_text("No worker of “cut%2” is on the bus.").wait_for()
        await browser.go(page, "jurnals/all")
        await page.get_by_text("Nothing is called “jurnals/all” here.").wait_for()
        await browser.go(page, "overview")
        await page.get_by_text("Start a worker").first.wait_for()  # and soon again, in what doctor found
        browser.start("web")
        await page.get_by_role("link", name="web", exact=True).wait_for()

    visit(shop(), look)
