"""Statistics of durations: percentiles, and a histogram with the steps 1, 2, 5, 10, ..."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from .output import Cell, Output, duration

__all__ = ["PERCENTILES", "histogram", "percentile", "show_histogram", "summary"]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}

_STEPS = [factor * 10.0**power for power in range(-6, 4) for factor in (1, 2, 5)]
"""Upper ends of the bars, in seconds: from a microsecond to an hour and more."""

_WIDEST = 40


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of at least one value; the values are sorted."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Return minimum, percentiles and maximum; each is None without values."""
    ordered = sorted(times)
    if not ordered:
        return dict.fromkeys(("min", *PERCENTILES, "max"))
    found = {name: percentile(ordered, percent) for name, percent in PERCENTILES.items()}
    return {"min": ordered[0], **found, "max": ordered[-1]}


def histogram(times: Sequence[float]) -> list[tuple[float, int]]:
    """Return the bars from the first to the last that is not empty: the upper end in seconds, and the count."""
    counts = [0] * (len(_STEPS) + 1)
    for seconds in times:
        counts[bisect_left(_STEPS, seconds)] += 1
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return []
    ends = [*_STEPS, math.inf]
    return [(ends[index], counts[index]) for index in range(filled[0], filled[-1] + 1)]


def show_histogram(output: Output, times: Sequence[float]) -> None:
    """Write the bars as text."""
    bars = histogram(times)
    most = max((count for _, count in bars), default=1)
    for end, count in bars:
        label = "more" if math.isinf(end) else f"<= {duration(end)}"
        bar: Cell = ("#" * math.ceil(_WIDEST * count / most), "cyan")
        output.line(f"  {label:>12}  {count:>8}  ", bar)
