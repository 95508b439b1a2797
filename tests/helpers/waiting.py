"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from reprlib import Repr
from typing import TypeVar

from .scale import PATIENCE
from .stopwatch import Stopwatch

__all__ = ["LEAST", "wait_until", "wait_until_async"]

T = TypeVar("T")

LEAST = 60.0
"""Seconds for which everybody waits at least. A test that passes pays nothing for them; a shorter time would say that
a machine was slow, and not that something never came."""

PAUSE, LONGEST_PAUSE = 0.005, 0.025
"""Seconds between two looks: short beside a test, and longer after a while, for looks take from the processor what is
waited for may want. What takes longer to look at is left alone for as long again."""

SHARE = 0.1
"""Of the time for which we have waited already, a pause."""

MOST = 4
"""Where the machine has more to do than it can, nobody waits more than this many times as long."""

SHOWN = Repr()
"""How a condition's names are shown: shortened, and an object whose `repr()` fails by its class."""

SHOWN.maxlist, SHOWN.maxstring, SHOWN.maxother = 20, 200, 500


def wait_until(condition: Callable[[], T], timeout: float = LEAST, what: str = "") -> T:
    """
    Return the first true value of `condition()`.

    It looks again until `timeout` seconds, and not less than `LEAST`, have passed on a `Stopwatch`. Then it
    raises AssertionError that says what did not come true (`what`, or the condition's own name).
    """
    watch = Stopwatch()
    looked = time.monotonic()
    while not (value := condition()):
        if _is_over(watch, timeout):
            raise _not_true(condition, watch, what)
        time.sleep(max(_pause(watch), time.monotonic() - looked))
        looked = time.monotonic()
    return value


async def wait_until_async(condition: Callable[[], T], timeout: float = LEAST, what: str = "") -> T:
    """Do the same as `wait_until` without blocking the loop."""
    watch = Stopwatch()
    while not (value := condition()):
        if _is_over(watch, timeout):
            raise _not_true(condition, watch, what)
        await asyncio.sleep(_pause(watch))
    return value


def _pause(watch: Stopwatch) -> float:
    return max(PAUSE, min(LONGEST_PAUSE, SHARE * watch.elapsed))


def _is_over(watch: Stopwatch, timeout: float) -> bool:
    seconds = max(timeout, LEAST) * PATIENCE
    return watch.elapsed >= seconds and (watch.seconds >= seconds or watch.elapsed >= MOST * seconds)


def _not_true(condition: Callable[[], object], watch: Stopwatch, what: str) -> AssertionError:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return AssertionError(f"not true after {watch.elapsed:.0f} s: {name}{_looked_at(condition)}")


def _looked_at(condition: Callable[[], object]) -> str:
    """Return the final values of a condition's names, a line each: the first output of its test."""
    try:
        found = dict(inspect.getclosurevars(condition).nonlocals)
    except (TypeError, ValueError):  # no function of Python's, or a name of it that is not set
        return ""
    found.update(zip(condition.__code__.co_varnames, condition.__defaults__ or (), strict=False))
    return "".join(f"\n  {name}: {SHOWN.repr(value)}" for name, value in found.items())
