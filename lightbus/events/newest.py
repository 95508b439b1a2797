"""Merges the newest events of several journals: a publisher those it serves, a client those of all publishers."""

from __future__ import annotations

from typing import Any

__all__ = ["MAX_HISTORY", "newest_of"]

MAX_HISTORY = 1000
"""Largest number of events in one answer."""


def newest_of(parts: list[list[dict[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """
    Return the newest events of several journals, oldest first.

    Events of one journal stay in its order. The times at which they were fired only decide how journals are
    interleaved, since clocks differ.
    """
    found: list[dict[str, Any]] = []
    left = [list(part) for part in parts if part]
    while left and len(found) < limit:
        newest = max(left, key=lambda part: (part[-1]["published_at"], part[-1]["native_id"]))
        found.append(newest.pop())
        if not newest:
            left.remove(newest)
    return found[::-1]
