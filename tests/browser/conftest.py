"""Fixtures of the tests in a browser: a busy shop, its dashboard, and a browser without errors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from browser.shop import Shop
from helpers import Process, Processes
from helpers.scale import PATIENCE

Start = Callable[[str], Process]
Visit = Callable[["Browser"], Coroutine[Any, Any, None]]
InBrowser = Callable[[Callable[[Any], Coroutine[Any, Any, Any]]], Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a browser if there is none."""
    here = f"{Path(__file__).parent}/"
    ours = [item for item in items if str(item.path).startswith(here)]  # of all tests: `parents` would take longer
    if ours and (lacks := chromium.lacks()):
        for item in ours:
            if "images" not in item.path.name:
                item.add_marker(pytest.mark.skip(reason=lacks))


class Browser:
    """
    A browser with which a test visits a dashboard.

    Attributes:
        start: starts a further service of the shop.
        complaints: errors on the console, and answers that were errors.

    """

    def __init__(self, started: Any, url: str, start: Start) -> None:
        self._started = started
        self.start = start
        self.url = url
        self.complaints: list[str] = []

    async def page(self, *, width: int = 1024, scheme: str = "light") -> Any:
        """Open a window of a separate browser."""
        return self._watched(
            await self._started.new_page(
                viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
            )
        )

    async def windows(self, count: int) -> list[Any]:
        """Open several windows of one browser."""
        context = await self._started.new_context()
        return [self._watched(await context.new_page()) for _ in range(count)]

    def _watched(self, page: Any) -> Any:
        page.set_default_timeout(60_000 * PATIENCE)
        page.on("console", lambda message: message.type in ("error", "warning") and self._note(message.text))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("response", lambda answer: answer.status >= 400 and self._note(f"{answer.status} {answer.url}"))
        return page

    async def go(self, page: Any, path: str) -> None:
        """Go to a page, and wait until it shows data of the bus."""
        await page.goto(f"{self.url}#/{path}")
        await page.wait_for_selector("main h1")

    def _note(self, text: str) -> None:
        self.complaints.append(text)


@pytest.fixture
def shop(processes: Processes) -> Shop:
    """Start services of the shop."""
    return Shop(processes)


@pytest.fixture(scope="session")
def resident_browser() -> Iterator[chromium.ResidentBrowser]:
    """Start a browser for all tests of this process."""
    with closing(chromium.ResidentBrowser()) as made:
        yield made


@pytest.fixture
def in_browser(resident_browser: chromium.ResidentBrowser) -> InBrowser:
    """Return a function that runs a coroutine with a browser without open pages, and returns its result."""
    return resident_browser.run


@pytest.fixture
def visit(in_browser: InBrowser, shop: Shop) -> Callable[[str, Visit], None]:
    """Return a function that visits a dashboard with a browser."""

    async def run(started: Any, url: str, visiting: Visit) -> None:
        browser = Browser(started, url, shop.start)
        await visiting(browser)
        assert browser.complaints == []

    return lambda url, visiting: in_browser(lambda started: run(started, url, visiting))
