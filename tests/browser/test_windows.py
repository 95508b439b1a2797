"""The windows of one browser, which share two connections: what happens to one of them is no matter of the others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

LATEST = "document.querySelector('#tail .event-args')?.textContent"


async def _goes_on(page: Any) -> None:
    """Wait until a page of events shows one that it does not show yet."""
    latest = await page.evaluate(LATEST)
    await page.wait_for_function(f"(latest) => {LATEST} && {LATEST} !== latest", arg=latest)


async def _crash(page: Any) -> None:
    """Have the process of a window end, as by a fault of the browser."""
    devtools = await page.context.new_cdp_session(page)
    crashed = asyncio.ensure_future(page.wait_for_event("crash"))
    asked = asyncio.ensure_future(devtools.send("Page.crash"))  # nobody is left who answers
    await crashed
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked


def test_a_window_crashes(shop: Any, visit: Any) -> None:
    """The others go on, though what they share was in its process: and whoever comes then, too."""

    async def look(browser: Any) -> None:
        first, second, third = await browser.windows(3)
        for page, path in ((first, "overview"), (second, "events"), (third, "events")):
            await browser.go(page, path)
        await _goes_on(second)
        await _crash(first)
        await _goes_on(second)
        await _goes_on(second)
        await _goes_on(third)

    visit(shop("customers", "orders", "web"), look)
