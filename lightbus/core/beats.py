"""When periodic work is due: at moments shared by all timers of this process.

In an idle process the cost is the wake-up, not the work. Work that is due at the same moment needs one wake-up.
"""

from __future__ import annotations

import math
import random

__all__ = ["next_beat"]

_PHASE = random.random()
"""Seconds by which our moments differ from those of other processes: not all workers of a host wake at once."""

_EARLY = 0.05
"""The part of a period by which a timer may be early: then its moment counts as reached, and is not given again."""


def next_beat(now: float, seconds: float) -> float:
    """
    Return when work with this period is due next.

    If one period is a multiple of another, its moments are among those of the other.
    """
    return _PHASE + seconds * (math.floor((now - _PHASE) / seconds + _EARLY) + 1)
