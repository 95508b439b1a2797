"""A clock that stops while this process does not run: on a busy machine, in a debugger, asleep.

A peer that is waited for then has as much time as this process. Deadlines of callers are in real time instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LONGEST_STEP", "RunningClock"]

LONGEST_STEP = 0.25
"""Seconds between two readings that count; a process that runs reads more often."""


class RunningClock:
    """
    Only touched from one loop, which is to read it every `LONGEST_STEP` at least while somebody waits by it.

    Args:
        monotonic: real seconds.

    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._read_at = monotonic()
        self._passed = 0.0

    def read(self) -> float:
        """Return the seconds that have passed since it was made."""
        now = self._monotonic()
        self._passed += min(now - self._read_at, LONGEST_STEP)
        self._read_at = now
        return self._passed
