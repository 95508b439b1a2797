"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from .scale import PATIENCE

__all__ = ["wait_until", "wait_until_async"]

T = TypeVar("T")

PAUSE = 0.005
"""Seconds between two looks: short beside a test, long beside a look."""


def wait_until(condition: Callable[[], T], timeout: float = 5.0, what: str = "") -> T:
    """
    Return the first true value of `condition()`; look again until `timeout` seconds have passed.

    Raises AssertionError that says what did not come true (`what`, or the condition's own name).
    """
    end = time.monotonic() + timeout * PATIENCE
    while not (value := condition()):
        if time.monotonic() >= end:
            raise _not_true(condition, timeout, what)
        time.sleep(PAUSE)
    return value


async def wait_until_async(condition: Callable[[], T], timeout: float = 5.0, what: str = "") -> T:
    """Do what `wait_until` does, and leave the loop free meanwhile."""
    end = time.monotonic() + timeout * PATIENCE
    while not (value := condition()):
        if time.monotonic() >= end:
            raise _not_true(condition, timeout, what)
        await asyncio.sleep(PAUSE)
    return value


def _not_true(condition: Callable[[], object], timeout: float, what: str) -> AssertionError:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return AssertionError(f"not true after {timeout * PATIENCE:g} s: {name}")
