"""
The order in which tests run side by side.

Tests that start programs wait most of the time, others compute: in the order of files there would be times when all
wait, and the last to end would be a few that take long. So each worker begins with some of those that take long, and
then has those that wait among those that compute. Of these it has whole files, as far as can be: what the tests of a
file share is made once. So is a database server, which takes as long to start as some hundred tests: all that want one
are one worker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

__all__ = ["in_order_of_files", "rotated", "side_by_side"]

STARTS_PROGRAMS = "processes"
"""The fixture by which tests do."""

LONG, DATABASE = "long", "database"
"""Marks of those that take long, and of those that want a database server."""

LAST_START = 0.9
"""Share of a worker's tests after which none that starts programs comes any more: what is left at the end is short."""

TOGETHER = 20
"""Tests of one file, at most, between which none that starts programs comes."""


def rotated(tests: Path, worker: int, workers: int) -> list[str]:
    """
    Return what is in the directory of the tests in an order of this worker's own.

    Each collects all tests. Where no bytecode is kept yet each would compile all of them, at the same time; so each
    begins elsewhere, and finds compiled what others have had before.
    """
    entries = sorted(path for path in tests.iterdir() if path.is_dir() or path.name.startswith("test_"))
    paths = [str(path) for path in entries if any(path.rglob("test_*.py")) or path.is_file()]
    first = worker * len(paths) // workers
    return paths[first:] + paths[:first]


def in_order_of_files(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order of their files, whatever the order of their collection."""
    return sorted(items, key=lambda item: str(item.path))


def side_by_side(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order for this many workers: each has a share of it, one after the other."""
    first = [item for item in items if _is_marked(item, LONG) or _is_marked(item, DATABASE)]
    others = [item for item in items if not (_is_marked(item, LONG) or _is_marked(item, DATABASE))]
    starting = [item for item in others if STARTS_PROGRAMS in getattr(item, "fixturenames", ())]
    computing = [item for item in others if STARTS_PROGRAMS not in getattr(item, "fixturenames", ())]
    ordered: list[pytest.Item] = []
    for number, begun_with in enumerate(_dealt(first, workers)):
        starts = starting[number::workers]
        # As large as xdist makes the shares, so that each worker begins where this one does.
        size = (len(items) - len(ordered)) // (workers - number)
        rest = size - len(begun_with) - len(starts) if number < workers - 1 else len(computing)
        ordered += begun_with
        ordered += _merged(starts, computing[: max(0, rest)])
        del computing[: max(0, rest)]
    return ordered


def _is_marked(item: pytest.Item, mark: str) -> bool:
    return bool(item.get_closest_marker(mark))


def _dealt(items: Sequence[pytest.Item], workers: int) -> list[list[pytest.Item]]:
    """Return about equally many for each worker, all tests with a database server for the first."""
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    hands[0] += [item for item in items if _is_marked(item, DATABASE)]
    for item in items:
        if not _is_marked(item, DATABASE):
            min(hands, key=len).append(item)
    return hands


def _merged(starting: Sequence[pytest.Item], computing: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return both, the first evenly spread over the whole."""
    placed: list[tuple[float, int, Sequence[pytest.Item]]] = []
    placed += [(LAST_START * number / len(starting), 0, [item]) for number, item in enumerate(starting)]
    done = 0
    for block in _blocks(computing):
        placed.append((done / len(computing), 1, block))
        done += len(block)
    return [item for _, _, block in sorted(placed, key=lambda each: each[:2]) for item in block]


def _blocks(computing: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    found = []
    for _, each in groupby(computing, lambda item: item.path):
        whole = list(each)
        found += [whole[first : first + TOGETHER] for first in range(0, len(whole), TOGETHER)]
    return found
