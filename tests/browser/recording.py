"""Runs a busy shop for a while, visits each page of its dashboard, and records the answers."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from browser import chromium
from browser.replay import PAGES
from browser.shop import EVERYBODY, Shop
from helpers import Processes
from helpers.surroundings import Roots, own_surroundings

__all__ = ["LISTEN", "TOLD", "recorded"]

TWICE = ("stock", "warehouse")
"""The services that run in two processes."""

ENOUGH_EVENTS = 20

FEW = 4
"""How many dead letters are recorded: they all look the same."""

LISTEN = """
delete window.SharedWorker;
window.told = {};
const Plain = EventSource;
window.EventSource = class extends Plain {
  constructor(url) {
    super(url);
    window.told[url] ??= [];
    this.addEventListener("message", (event) => {
      if (!window.paused) window.told[url].push(JSON.parse(event.data));
    });
  }
};
"""
"""Script of a page: records the messages of the streams that the page opens."""

TOLD = "() => Object.values(window.told).every((parts) => parts.length)"
"""Script of a page: returns whether each opened stream has had a message. A page may need several streams."""


def recorded(seconds: float) -> dict[str, Any]:
    """Return the answers to the pages of a dashboard after this many seconds, during which a page was open."""
    with tempfile.TemporaryDirectory() as logs, closing(Roots()) as roots, own_surroundings(roots) as made:
        processes = Processes(Path(logs))
        try:
            url = Shop(processes)(*EVERYBODY, *TWICE)
            told = asyncio.run(_looked(url, seconds))
        finally:
            processes.end()
        told["answers"]["/api/about"]["where"] = "bus 'shop', sockets in /run/user/1000/lightbus/shop"
        dead = told["answers"]["/api/dead"]
        dead["dead"], dead["more"] = dead["dead"][:FEW], len(dead["dead"]) - FEW
        text = json.dumps(told)
        elsewhere = {
            str(made.runtime): "/run/user/1000",
            str(made.data): "/home/ada/.local/share/lightbus",
            made.bus: "shop",
        }
        for place, other in elsewhere.items():
            text = text.replace(place, other)
        return dict(json.loads(text.replace(f'"{os.uname().nodename}"', '"web-1"')))


async def _looked(url: str, seconds: float) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    async with chromium.started() as browser:
        page = await browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(120_000)

        async def note(answer: Any) -> None:
            asked = answer.url.removeprefix(url.rstrip("/"))
            if asked.startswith("/api/") and answer.request.resource_type == "fetch":
                answers[asked] = await answer.json()

        page.on("response", note)
        await page.add_init_script(LISTEN)
        await page.goto(url)
        await asyncio.sleep(seconds)
        for path, text in PAGES.items():
            await page.goto(f"{url}#/{path}")
            await page.get_by_text(text).first.wait_for()
            await page.wait_for_function(TOLD)
            if path == "events":
                await _follow_one(page)
            await page.wait_for_timeout(5000)  # two rounds
            await page.evaluate("window.paused = false")
        page.remove_listener("response", note)
        told = await page.evaluate("window.told")
    streams = {asked: parts[-1] for asked, parts in told.items()}
    for asked, parts in told.items():
        if asked.startswith("/api/events"):
            streams[asked] = {"events": _up_to_followed(parts, [*answers]), "passed_over": 0}
    return {"at": max(each.get("clock", 0) for each in streams.values()), "answers": answers, "streams": streams}


def _up_to_followed(parts: list[dict[str, Any]], asked: list[str]) -> list[dict[str, Any]]:
    """Return the events up to the one whose path was requested."""
    events = [each for part in parts for each in part["events"]]
    last = [number for number, each in enumerate(events) if any(quote(str(each["native_id"])) in url for url in asked)]
    return events[: last[-1] + 1]


async def _follow_one(page: Any) -> None:
    """Wait for a list of events, and show the path of the newest one."""
    await page.locator(".event").nth(ENOUGH_EVENTS).wait_for()
    await page.get_by_role("button", name="Pause").click()
    await page.evaluate("window.paused = true")
    await page.locator(".event").first.click()
    await page.locator(".step.good", has_text="warehouse-reserve").wait_for()
