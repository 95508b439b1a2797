"""Following calls of a scripted peer: repeated, lost, forgotten or too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from helpers import wait_until_async
from helpers.scripted_bus import Answer, ScriptedBus
from lightbus.cli.support import calls
from lightbus.cli.support.calls import CallFollower
from lightbus.cli.support.connection import SERVICE, Connection
from lightbus.exceptions import LightbusTimeout, UnknownProcedure


def told(*numbers: int, noted: int | None = None) -> dict[str, Any]:
    """Return a worker's answer: calls with these numbers."""
    return {"calls": [{"number": number} for number in numbers], "noted": noted or max(numbers, default=0)}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ASK_EVERY", 0.0)


def followed(bus: ScriptedBus, is_over: Callable[[], bool]) -> tuple[list[int], list[int]]:
    """Follow the calls until a condition holds; return the numbers shown, and how many were dropped."""
    shown: list[int] = []
    dropped: list[int] = []

    async def main() -> None:
        follower = CallFollower(
            cast("Connection", bus), lambda _, call: shown.append(call["number"]), lambda _, n: dropped.append(n)
        )
        await follower.begin()
        await wait_until_async(is_over)
        await follower.end()

    asyncio.run(main())
    return shown, dropped


@pytest.mark.parametrize(
    ("answers", "shown", "dropped"),
    [
        ([told(), told(1, 2), told(3), told(noted=3)], [1, 2, 3], []),
        ([told(), LightbusTimeout("busy"), told(1), told(noted=1)], [1], []),
        ([told(), told(1, 2, noted=9), told(10), told(noted=10)], [1, 2, 10], [7]),
        ([told(), told(3, 4), told(noted=4)], [3, 4], [2]),
        ([told(), told(1, 2), told(1), told(noted=1)], [1, 2, 1], []),  # it had forgotten us: a new watch
    ],
)
def test_calls_are_shown_once_and_gaps_counted(answers: list[Answer], shown: list[int], dropped: list[int]) -> None:
    """Each call is shown once, missing numbers are counted, and the last number is sent back."""
    bus = ScriptedBus(*answers)
    count = len(answers)
    assert followed(bus, lambda: len(bus.questions) > count) == (shown, dropped)
    assert bus.questions[-1]["after"] == shown[-1]
    assert bus.watches_ended == 1


def test_workers_without_reports() -> None:
    """An older worker is not asked again, with a note; other commands are not asked at all."""
    bus = ScriptedBus(UnknownProcedure("no watch_calls"))
    assert followed(bus, lambda: bool(bus.notes)) == ([], [])
    assert "does not report its calls: no watch_calls" in bus.notes[0]
    bus = ScriptedBus(told(1), service=SERVICE)
    assert followed(bus, lambda: True) == ([], [])
    assert bus.questions == []
