"""A clock that stops while this process does not run: on a busy machine, in a debugger, while the host sleeps.

So a peer is given up only after time in which this process could have read its answer. Callers' deadlines use real
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LONGEST_STEP", "RunningClock"]

LONGEST_STEP = 0.25
"""Longest time between two readings that counts, in seconds; a running process reads more often."""


class RunningClock:
    """
    Only touched from one loop, which must read it at least every `LONGEST_STEP` while it is in use.

    Args:
        monotonic: returns real time, in seconds.

    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._read_at = monotonic()
        self._passed = 0.0

    def read(self) -> float:
        """Return the seconds that this process has run since the clock was made."""
        now = self._monotonic()
        self._passed += min(now - self._read_at, LONGEST_STEP)
        self._read_at = now
        return self._passed
