"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from .scale import PATIENCE
from .stopwatch import Stopwatch

__all__ = ["wait_until", "wait_until_async"]

T = TypeVar("T")

PAUSE = 0.005
"""Seconds between two looks: short beside a test. What takes longer to look at is left alone for as long again."""

MOST = 4
"""Where the machine has more to do than it can, nobody waits more than this many times as long."""


def wait_until(condition: Callable[[], T], timeout: float = 15.0, what: str = "") -> T:
    """
    Return the first true value of `condition()`; look again until `timeout` seconds have passed on a `Stopwatch`.

    Raises AssertionError that says what did not come true (`what`, or the condition's own name).
    """
    watch = Stopwatch()
    looked = time.monotonic()
    while not (value := condition()):
        if _is_over(watch, timeout * PATIENCE):
            raise _not_true(condition, timeout, what)
        time.sleep(max(PAUSE, time.monotonic() - looked))
        looked = time.monotonic()
    return value


async def wait_until_async(condition: Callable[[], T], timeout: float = 15.0, what: str = "") -> T:
    """Do what `wait_until` does, and leave the loop free meanwhile."""
    watch = Stopwatch()
    while not (value := condition()):
        if _is_over(watch, timeout * PATIENCE):
            raise _not_true(condition, timeout, what)
        await asyncio.sleep(PAUSE)
    return value


def _is_over(watch: Stopwatch, seconds: float) -> bool:
    return watch.elapsed >= seconds and (watch.seconds >= seconds or watch.elapsed >= MOST * seconds)


def _not_true(condition: Callable[[], object], timeout: float, what: str) -> AssertionError:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return AssertionError(f"not true after {timeout * PATIENCE:g} s: {name}")
