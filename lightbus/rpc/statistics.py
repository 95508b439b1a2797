"""Counters of each procedure that a worker serves: cheap enough to be always on. Only numbers; no clock."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Sequence

__all__ = ["BOUNDS", "LATEST", "MAX_CALLERS", "OTHERS", "Usage", "percentile"]

LATEST = 500
"""Percentiles are taken over so many of the latest calls, so that they show the present; 1 % of these are 5 calls."""

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of the histogram of durations: a call on one host takes a tenth of a millisecond."""

MAX_CALLERS = 200
"""Calling services counted separately per procedure; bounded, since the names come from the network."""

OTHERS = "(others)"
"""Counts all services beyond these, and callers whose service is unknown."""


class Usage:
    """
    The calls of one procedure since the worker's start. Only used from the node's loop.

    Attributes:
        calls: number of answered calls.
        errors: number of calls answered with an error.
        callers: number of calls by calling service.
        caller_errors: number of calls answered with an error, by calling service; without services that had none.
        seconds: total duration of all calls.
        within: histogram of durations: one count for each interval up to one of `BOUNDS`, and one for longer calls.

    """

    __slots__ = ("_latest", "_latest_callers", "caller_errors", "callers", "calls", "errors", "seconds", "within")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.seconds = 0.0
        self.within = [0] * (len(BOUNDS) + 1)
        self.callers: dict[str, int] = {}
        self.caller_errors: dict[str, int] = {}
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._latest_callers: deque[str] = deque(maxlen=LATEST)

    def note(self, seconds: float, caller: str, *, failed: bool) -> None:
        """Count a call; `seconds` is the time from its arrival to its answer, `caller` the calling service."""
        self.calls += 1
        self.errors += failed
        self.seconds += seconds
        self.within[bisect_left(BOUNDS, seconds)] += 1
        self._latest.append(seconds)
        callers = self.callers
        if caller not in callers and len(callers) >= MAX_CALLERS:
            caller = OTHERS
        callers[caller] = callers.get(caller, 0) + 1
        if failed:
            self.caller_errors[caller] = self.caller_errors.get(caller, 0) + 1
        self._latest_callers.append(caller)

    def latency(self, share: float) -> float | None:
        """Return the seconds within which this share of the latest calls was answered; None if there was no call."""
        return percentile(sorted(self._latest), share)

    def latency_by_caller(self, share: float) -> dict[str, float]:
        """Return the same by calling service, for each service that made some of the latest calls."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for caller, seconds in zip(self._latest_callers, self._latest, strict=True):
            found[caller].append(seconds)
        percentiles = {caller: percentile(sorted(times), share) for caller, times in found.items()}
        return {caller: seconds for caller, seconds in percentiles.items() if seconds is not None}


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that this share (0 to 1) of ordered values does not exceed; None if there is none."""
    if not ordered:
        return None
    rank = -int(-share * len(ordered) // 1)  # rounded up: nearest rank
    return ordered[min(max(rank, 1), len(ordered)) - 1]
