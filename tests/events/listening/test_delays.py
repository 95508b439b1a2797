"""The delays until events were handled: which are kept, and which listeners record them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, give, listener
from lightbus.events.listening import delays
from lightbus.events.listening.delays import Delays

FIRED = 0.5
"""When the events of `helpers.listeners` were fired, in seconds since 1970."""


def test_delays_are_kept_by_event_and_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ascending order; a delay may be negative if clocks differ; each pair has its own."""
    kept = Delays()
    for now in (1003.0, 1001.0, 999.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        kept.note("left", "a", 1000.0)
    kept.note("left", "b", 998.5)
    assert [*kept] == [("left", "a", [-1.0, 1.0, 3.0]), ("left", "b", [0.5])]


def test_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each pair, and of pairs: publishers come and go, and a percentile should show the present."""
    monkeypatch.setattr(delays, "LATEST", 3)
    monkeypatch.setattr(delays, "MAX_PAIRS", 2)
    monkeypatch.setattr(time, "time", lambda: 10.0)
    kept = Delays()
    for publisher in "aba":
        for fired in range(5):
            kept.note("left", publisher, float(fired))
    kept.note("left", "c", 9.0)
    assert [*kept] == [("left", "a", [6.0, 7.0, 8.0]), ("left", "c", [1.0])]


async def spoils(message: Any) -> None:
    """Handle an event, or a list of them, and modify the objects."""
    for each in message if isinstance(message, list) else [message]:
        each.published_at = each.publisher = each.event_name = None


async def on_loop(message: Any) -> None:
    """Handle an event, or a list of them, without awaiting anything."""


async def waits(message: Any) -> None:
    """Handle an event in a task."""
    await wait_until_async(lambda: True)


def in_thread(message: Any) -> None:
    """Handle an event in a thread."""


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("function", [on_loop, waits, in_thread, spoils])
def test_each_kind_of_listener_records_delays(function: Any, batch: int) -> None:
    """However it is called, with one event or with a list."""
    before = time.time()

    async def main() -> list[tuple[str, str, list[float]]]:
        runner = Context().runner(replace(listener(function), batch=batch))
        for number in range(4):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 4)
        await runner.stop(5.0)
        return [*runner.delays]

    [(event, publisher, latest)] = asyncio.run(main())
    assert (event, publisher) == ("seen", "p" * 16)
    assert 1 <= len(latest) <= 4
    assert all(before - FIRED <= each <= time.time() - FIRED for each in latest)
