"""
The order in which tests run side by side.

Tests that start programs wait most of the time, others compute: in the order of files there would be times when all
wait, and the last to end would be a few that take long. So each worker begins with some of those that take long, and
then has those that wait among those that compute.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

__all__ = ["side_by_side"]

STARTS_PROGRAMS = "processes"
"""The fixture by which tests do."""

LAST_START = 0.9
"""Share of a worker's tests after which none that starts programs comes any more: what is left at the end is short."""


def side_by_side(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order for so many workers: each has a share of it, one behind the other."""
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    starting = [item for item in others if STARTS_PROGRAMS in getattr(item, "fixturenames", ())]
    computing = [item for item in others if STARTS_PROGRAMS not in getattr(item, "fixturenames", ())]
    ordered: list[pytest.Item] = []
    for number in range(workers):
        ordered += long[number::workers]
        ordered += _merged(starting[number::workers], computing[number::workers])
    return ordered


def _merged(starting: Sequence[pytest.Item], computing: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return both, each evenly spread over the whole."""
    placed = [(LAST_START * number / len(starting), 0, number) for number in range(len(starting))]
    placed += [(number / len(computing), 1, number) for number in range(len(computing))]
    return [(starting, computing)[kind][number] for _, kind, number in sorted(placed)]
