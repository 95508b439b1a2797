"""The system's own Chromium, driven by Playwright, set up so that a page looks the same on every machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

__all__ = ["CHROMIUM", "FONTS", "lacks", "lacks_font", "started"]

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The one without windows takes half of the processor."""

FONTS = ("DejaVu Sans", "DejaVu Sans Mono")
"""In which text is drawn where pictures are compared."""

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
    """Return why no browser can be started here; empty where it can."""
    if CHROMIUM is None:
        return "there is no chromium here (apt-get install chromium-headless-shell)"
    missing = [name for name in ("playwright", "axe_playwright_python", "PIL") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed (pip install playwright axe-playwright-python pillow)"
    return ""


def lacks_font() -> str:
    """Return why letters would not look as in the pictures that are kept; empty where they would."""
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
