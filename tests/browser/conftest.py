"""What the tests in a browser share: a shop that is busy, its dashboard, and a browser that complains of nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from helpers import Process, Processes
from helpers.scale import PATIENCE

CHROMIUM = shutil.which("chromium")
PROGRAMS = Path(__file__).parent / "programs"

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

Start = Callable[[str], Process]
Visit = Callable[["Browser"], Coroutine[Any, Any, None]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none."""
    if CHROMIUM is None:
        reason = pytest.mark.skip(reason="there is no chromium here (apt-get install chromium)")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(reason)


class Browser:
    """
    A browser that looks at a dashboard.

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
        """Open a window."""
        page = await self._started.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        page.set_default_timeout(60_000 * PATIENCE)
        page.on("console", lambda message: message.type in ("error", "warning") and self._note(message.text))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("response", lambda answer: answer.status >= 400 and self._note(f"{answer.status} {answer.url}"))
        return page

    async def go(self, page: Any, path: str) -> None:
        """Go to a page, and wait until it shows what the bus told."""
        await page.goto(f"{self.url}#/{path}")
        await page.wait_for_selector("main h1")

    def _note(self, text: str) -> None:
        self.complaints.append(text)


class Shop:
    """Starts services of the shop, and a dashboard that looks at them."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def __call__(self, *services: str, actions: bool = True) -> str:
        """Start them; return where the dashboard is, once all are there."""
        started = [self.start(service) for service in services]
        more = ("--allow-actions",) if actions else ()
        dashboard = self._processes.lightbus("dashboard", "--port", "0", "--json", *more)
        for each in started:
            each.wait_for_line("Ready")
        line = dashboard.wait_for_line(r"^\{.*\}$")
        return str(json.loads(line[0])["url"])

    def start(self, service: str) -> Process:
        """Start one service."""
        environment = {"EVERY": "0.2", "SERVICE": service}
        return self._processes.worker("shop", "--service-name", service, cwd=PROGRAMS, env=environment)


@pytest.fixture
def shop(processes: Processes) -> Shop:
    """Start services of the shop."""
    return Shop(processes)


@pytest.fixture
def visit(shop: Shop) -> Callable[[str, Visit], None]:
    """Return a function that looks at a dashboard with a browser, which ends with it; where there is what it takes."""
    driver = pytest.importorskip("playwright.async_api", reason="Playwright is not installed (pip install playwright)")
    pytest.importorskip("axe_playwright_python", reason="axe is not installed (pip install axe-playwright-python)")

    async def run(url: str, visiting: Visit) -> None:
        async with driver.async_playwright() as playwright:
            started = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            try:
                browser = Browser(started, url, shop.start)
                await visiting(browser)
                assert browser.complaints == []
            finally:
                await started.close()

    return lambda url, visiting: asyncio.run(run(url, visiting))
