"""
The order of tests in workers that run side by side.

Tests that start programs mostly wait, the others mostly compute. In the order of files there would be times when all
workers wait, and at the end a few workers would still run long tests. So each worker begins with its share of the long
tests, and then alternates between tests that wait and tests that compute. Each gets whole files as far as possible,
because fixtures of a file are then made once. All tests with a database server go to one worker: starting the server
takes as long as a hundred tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

__all__ = ["in_order_of_files", "rotated", "side_by_side"]

STARTS_PROGRAMS = "processes"
"""The fixture of tests that start programs."""

LONG, DATABASE = "long", "database"
"""The marks of long tests, and of tests that need a database server."""

LAST_START = 0.9
"""The share of a worker's tests after which no test starts programs, so that only short ones are left at the end."""

TOGETHER = 20
"""The most tests of one file in a row before a test that starts programs may come."""


def rotated(tests: Path, worker: int, workers: int) -> list[str]:
    """
    Return the content of the directory of tests, in another order for each worker.

    Each worker collects all tests. Without stored bytecode, all workers would compile the same files at the same time.
    So each begins at another place, and finds most files compiled by others.
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
    """Deal tests to the workers in about equal numbers; the first one gets all tests with a database server."""
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    hands[0] += [item for item in items if _is_marked(item, DATABASE)]
    for item in items:
        if not _is_marked(item, DATABASE):
            min(hands, key=len).append(item)
    return hands


def _merged(starting: Sequence[pytest.Item], computing: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return both as one list, over which the first is spread evenly."""
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
