"""The newest events of several journals, merged: by a publisher of its own journals, by a client of all publishers'."""

from __future__ import annotations

from typing import Any

__all__ = ["MAX_HISTORY", "newest_of"]

MAX_HISTORY = 1000
"""Events that are answered at a time."""


def newest_of(parts: list[list[dict[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """
    Return the newest of what several journals have, oldest first.

    Those of one journal stay in its order; the times at which they were fired, by whatever clock, decide only whose
    turn it is.
    """
    found: list[dict[str, Any]] = []
    left = [list(part) for part in parts if part]
    while left and len(found) < limit:
        newest = max(left, key=lambda part: (part[-1]["published_at"], part[-1]["native_id"]))
        found.append(newest.pop())
        if not newest:
            left.remove(newest)
    return found[::-1]
