"""The system's Chromium, driven by Playwright, configured so that a page looks the same on every machine."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["CHROMIUM", "FONTS", "ResidentBrowser", "lacks", "lacks_font", "started"]

T = TypeVar("T")

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The browser's program. The one without windows is preferred: it needs half of the processor time."""

FONTS = ("DejaVu Sans", "DejaVu Sans Mono")
"""The fonts with which pages are drawn when pictures are compared."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Text has the same edges wherever it is drawn.
    "--font-render-hinting=none",
    "--disable-lcd-text",
    "--force-color-profile=srgb",
]


def lacks() -> str:
    """Return why no browser can be started here; empty if it can."""
    if CHROMIUM is None:
        return "there is no chromium here (apt-get install chromium-headless-shell)"
    missing = [name for name in ("playwright", "axe_playwright_python", "PIL") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed (pip install playwright axe-playwright-python pillow)"
    return ""


def lacks_font() -> str:
    """Return why text would look different from that in the stored pictures; empty if it would not."""
    for font in FONTS:
        told = subprocess.run(["fc-match", font, "family"], check=False, capture_output=True, text=True)
        if told.stdout.strip() != font:
            return f"the font {font} is not here (apt-get install fonts-dejavu-core fontconfig)"
    return ""


@asynccontextmanager
async def started() -> AsyncIterator[Any]:
    """Start a browser, which ends with the context."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class ResidentBrowser:
    """
    A browser that is started once and used by many tests, with its event loop. `close` ends both.

    Starting a browser, and the program that drives it, takes as long as most visits do.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._browser = self._runner.run(self._stack.enter_async_context(started()))

    def run(self, visit: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine with the browser, and return its result. Open pages are closed, cookies deleted."""
        return self._runner.run(self._visited(visit))

    async def _visited(self, visit: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        try:
            return await visit(self._browser)
        finally:
            for context in [*self._browser.contexts]:
                await context.close()

    def close(self) -> None:
        """End the browser, and the loop."""
        with self._runner:
            self._runner.run(self._stack.aclose())
