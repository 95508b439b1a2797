"""When periodic work is due: at moments that all timers of this process share.

An idle process spends its time on wake-ups, whatever is done then. Work that is due together needs one.
"""

from __future__ import annotations

import math
import random

__all__ = ["next_beat"]

_PHASE = random.random()
"""Seconds by which our moments are beside those of other processes: a host full of workers is not to wake at once."""

_EARLY = 0.05
"""The part of a period by which a timer may be early: its moment counts as come, and is not given a second time."""


def next_beat(now: float, seconds: float) -> float:
    """
    Return when work with this period is due next.

    Of two periods, one a multiple of the other, the longer one's moments are among the shorter one's.
    """
    return _PHASE + seconds * (math.floor((now - _PHASE) / seconds + _EARLY) + 1)
