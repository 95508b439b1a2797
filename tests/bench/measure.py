"""
What the measured programs share: the payloads, counts of a round, timing, percentiles, memory, the result line.

Imported by programs whose start and memory are measured, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from time import perf_counter

__all__ = [
    "CALL",
    "EVENT",
    "IN_FLIGHT",
    "MIB",
    "THREADS",
    "WARM_UP",
    "latencies",
    "megabytes_resident",
    "percentiles",
    "tell",
]

CALL = {"user": "admin", "password": "secret"}
"""Arguments of `check_password`, in every measurement."""

EVENT = {"user": "sally", "email": "sally@example.com"}
"""Arguments of `user_registered`, in every measurement."""

IN_FLIGHT = 100
THREADS = 16
MIB = 2**20

WARM_UP = 100
"""Rounds before the clock runs: connections, caches and the interpreter's own specialisation settle."""


def latencies(once: Callable[[], object], count: int) -> list[float]:
    """Return how long each of `count` runs of `once` took, in seconds, after a warm-up that is not counted."""
    for _ in range(min(WARM_UP, count)):
        once()
    taken = []
    for _ in range(count):
        began = perf_counter()
        once()
        taken.append(perf_counter() - began)
    return taken


def percentiles(taken: list[float]) -> dict[str, float]:
    """Return the 50th and 99th percentile of durations in seconds, in microseconds."""
    ordered = sorted(taken)
    return {"p50": ordered[len(ordered) // 2] * 1e6, "p99": ordered[int(len(ordered) * 0.99)] * 1e6}


def megabytes_resident(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MB, from /proc (the benchmark runs on Linux)."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def tell(result: dict[str, float] | dict[str, str]) -> None:
    """Print the line that the benchmark reads: one JSON object."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
