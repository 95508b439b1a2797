"""Draws the pages of the dashboard from stored answers: for the tests, and for the documents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from browser import chromium
from browser.images import opened, save
from browser.replay import KEPT, PAGES, Replay

__all__ = ["LOOKS", "draw_all", "kept_file", "shot"]

LOOKS = ((390, "light"), (1024, "light"), (1024, "dark"), (1920, "light"))
"""The widths in pixels and the colour schemes in which each page is drawn."""

KEPT_SCALE = 0.5
"""The scale of the stored pictures: enough to see what has changed."""

DOCUMENTS = Path(__file__).parents[2] / "docs" / "images"

IN_DOCUMENTS = {"overview": "overview", "service": "service/orders", "events": "events", "groups": "groups"}
"""The pictures in docs/dashboard.md: the name of the file, and the page."""


def kept_file(path: str, width: int, scheme: str) -> Path:
    """Return the file of a page's stored picture."""
    return KEPT / f"{path.replace('/', '-')}-{width}-{scheme}.png"


async def shot(page: Any) -> Image.Image:
    """Return the picture of a whole page, in the stored form."""
    return opened(await page.screenshot(full_page=True, animations="disabled", caret="hide"), scale=KEPT_SCALE)


def draw_all(answers: dict[str, Any]) -> Iterator[Path]:
    """Draw every picture again; yield each file."""
    yield from asyncio.run(_drawn(answers))


async def _drawn(answers: dict[str, Any]) -> list[Path]:
    files = []
    async with chromium.started() as browser:
        replay = Replay(browser, answers)
        for width, scheme in LOOKS:
            page = await replay.page(width, scheme)
            for path in PAGES:
                await replay.go(page, path)
                files.append(kept_file(path, width, scheme))
                save(await shot(page), files[-1])
        page = await replay.page(1200, "light", height=860)
        for name, path in IN_DOCUMENTS.items():
            await replay.go(page, path)
            if path == "events":
                await page.locator(".event").first.click()
                await page.locator(".step.good").first.wait_for()
            files.append(DOCUMENTS / f"{name}.png")
            save(opened(await page.screenshot(animations="disabled")), files[-1], bits=8)
        page = await replay.page(1200, "light", height=800)
        await replay.go(page, "overview")
        files.append(DOCUMENTS / "small.png")
        save(opened(await page.screenshot(animations="disabled"), scale=0.6), files[-1], bits=8)
        if replay.complaints:
            raise RuntimeError(f"the pages reported errors: {replay.complaints}")
    return files
