"""The windows of one browser, which share two connections: a failure of one does not affect the others."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from helpers import Processes
from helpers.scale import PATIENCE

LATEST = "document.querySelector('#tail .event-args')?.textContent"
NUMBERS = "[...document.querySelectorAll('#tail .event-args')].map((each) => JSON.parse(each.textContent).number)"
SOME_NUMBERS = f"() => {{ const shown = {NUMBERS}; return shown.length ? shown : null; }}"
"""A page that is being drawn anew shows none for a frame."""

ENOUGH = 10
"""Events that are looked at: at most how many there are while one stream takes another one's place."""


async def _goes_on(page: Any) -> None:
    """Wait until a page of events shows a new one."""
    latest = await page.evaluate(LATEST)
    await page.wait_for_function(f"(latest) => {LATEST} && {LATEST} !== latest", arg=latest)


async def _numbers(page: Any) -> list[int]:
    """Return the numbers of the events on a page, the latest first."""
    shown: list[int] = await (await page.wait_for_function(SOME_NUMBERS)).json_value()
    return shown


async def _crash(page: Any) -> None:
    """Let the process of a window end, as by an error of the browser."""
    devtools = await page.context.new_cdp_session(page)
    crashed = asyncio.ensure_future(page.wait_for_event("crash"))
    asked = asyncio.ensure_future(devtools.send("Page.crash"))  # nobody is left who answers
    await crashed
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked


def test_a_window_crashes(shop: Any, visit: Any) -> None:
    """The others continue, although their shared connection was in its process; so do new ones."""

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


def test_a_window_changes_its_filter(shop: Any, visit: Any) -> None:
    """Another window misses no event in the meantime, and shows none twice."""

    async def look(browser: Any) -> None:
        first, second = await browser.windows(2)
        for page in (first, second):
            await browser.go(page, "events")
            await _goes_on(page)
        for pattern in ("orders.*", "orders.c*", "*.created", "none"):
            wanted = second.get_by_label("Names of events, with wildcards")
            await wanted.fill(pattern)
            await wanted.press("Enter")
            seen = await _numbers(first)
            await first.wait_for_function(f"(seen) => {NUMBERS}[0] > seen + {ENOUGH}", arg=seen[0])
        numbers = await _numbers(first)
        assert numbers == list(range(numbers[0], numbers[-1] - 1, -1))

    visit(shop("customers", "orders", "web"), look)


HOLD = """
(urls) => {
  const { port } = new SharedWorker("/assets/worker.js", { name: "lightbus-streams" });
  window.hold = (urls) => {
    window.held = Object.fromEntries(urls.map((url, index) => [`held ${index}`, url]));
    port.postMessage(window.held);
  };
  window.hold(urls);
  setInterval(() => port.postMessage(window.held), 5000);
}
"""
"""Have one window want what many different pages would."""


def test_too_many_pages_of_one_browser(shop: Any, visit: Any) -> None:
    """Twenty of them stay live; one more says why it is not, and is so once another one is closed."""

    async def look(browser: Any) -> None:
        first, second = await browser.windows(2)
        await browser.go(first, "peers")
        await first.evaluate(HOLD, [f"/api/stream/service?name=s{number}" for number in range(20)])
        await second.goto(f"{browser.url}#/journals")
        told = second.locator("main .finding.error", has_text="20 different pages are open in this browser")
        await told.wait_for()
        assert "Close one of them" in await second.locator("#status").inner_text()
        await first.wait_for_selector("#status.good")
        await first.evaluate("hold([])")
        await second.wait_for_selector("main h1")
        await second.wait_for_selector("#status.good")
        assert await told.count() == 0

    visit(shop("customers"), look)


@pytest.mark.long
def test_too_many_pages_of_a_dashboard(shop: Any, visit: Any) -> None:
    """A page too many says so, and is live within a minute after another one was closed."""

    async def look(browser: Any) -> None:
        place = urlsplit(browser.url)
        ask = f"GET /api/events?pattern=none HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
        opened = [await asyncio.open_connection(place.hostname, place.port) for _ in range(50)]
        for reader, writer in opened:
            writer.write(ask)
            assert b" 200 " in await reader.readline()
        page = await browser.page()
        await page.goto(f"{browser.url}#/peers")
        await page.locator("main .finding.error", has_text="As many pages as this dashboard serves").wait_for()
        for _, writer in opened:
            writer.close()
        await page.wait_for_selector("#status.good", timeout=60_000 * PATIENCE)

    visit(shop("customers"), look)


@pytest.mark.long
def test_a_dashboard_hangs(processes: Processes, visit: Any) -> None:
    """A page without data for half a minute says so, and is live again with the next data."""
    dashboard = processes.lightbus("dashboard", "--port", "0", "--json")
    url = json.loads(dashboard.wait_for_line(r"^\{.*\}$")[0])["url"]

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "peers")
        await page.locator("#status", has_text="live").wait_for()
        dashboard.signal(signal.SIGSTOP)
        await page.locator("#status", has_text="not up to date").wait_for(timeout=120_000 * PATIENCE)
        dashboard.signal(signal.SIGCONT)
        await page.locator("#status", has_text="live").wait_for()

    visit(url, look)
