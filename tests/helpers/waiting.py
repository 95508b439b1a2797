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

__all__ = ["LEAST", "others_ended", "wait_until", "wait_until_async"]

T = TypeVar("T")

LEAST = 60.0
"""The shortest timeout, in seconds. It costs nothing in a test that passes. With a shorter one, a test could fail only
because the machine is slow."""

PAUSE, LONGEST_PAUSE = 0.005, 0.025
"""Seconds between two evaluations of the condition: short at first, longer after a while, since evaluating takes
processor time that the awaited work may need. After a slow evaluation the pause is as long as that took."""

SHARE = 0.1
"""The length of a pause, as a share of the time waited so far."""

MOST = 4
"""The longest wait on an overloaded machine, as a multiple of the timeout."""

SHOWN = Repr()
"""How a condition's names are shown: shortened, and an object whose `repr()` fails by its class."""

SHOWN.maxlist, SHOWN.maxstring, SHOWN.maxother = 20, 200, 500


def wait_until(condition: Callable[[], T], timeout: float = LEAST, what: str = "") -> T:
    """
    Return the first true value of `condition()`.

    It is evaluated again and again until `timeout` seconds, and at least `LEAST`, have passed on a `Stopwatch`. Then an
    AssertionError is raised that names what did not become true (`what`, or else the condition).
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


async def others_ended() -> None:
    """Wait until all other tasks of the running loop have ended."""
    await wait_until_async(lambda: asyncio.all_tasks() == {asyncio.current_task()})


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
