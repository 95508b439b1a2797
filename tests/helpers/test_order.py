"""The order of tests that run in parallel."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.order import TOGETHER, in_order_of_files, rotated, side_by_side


class Item:
    """A test of a file: a long one, one with a database, one that starts programs, or one that computes."""

    def __init__(self, kind: str, file: str = "a") -> None:
        self.kind = kind
        self.path = Path(file)
        self.fixturenames = ("processes",) if kind == "starts" else ()

    def get_closest_marker(self, name: str) -> bool:
        """Return whether it has a mark."""
        return name == self.kind


def ordered(items: list[Item], workers: int) -> list[Item]:
    """Return items in their order for this many workers."""
    return cast(list[Item], side_by_side(cast(list[pytest.Item], items), workers))


kinds = st.sampled_from(["long", "database", "starts", "computes"])


@given(st.lists(st.tuples(kinds, st.sampled_from("abc"))), st.integers(1, 5))
def test_no_test_is_left_out(given: list[tuple[str, str]], workers: int) -> None:
    """Nor is any there twice."""
    items = [Item(*each) for each in given]
    assert {*ordered(items, workers)} == {*items}
    assert len(ordered(items, workers)) == len(items)


def test_each_worker_begins_with_long_tests() -> None:
    """The others are spread over its share, and none that waits is left for the end."""
    items = [Item("computes", f"file{number // 4}") for number in range(200)]
    items += [Item(kind) for kind in ["long"] * 4 + ["starts"] * 40]
    found = [item.kind for item in ordered(items, 2)]
    for share in (found[: len(found) // 2], found[len(found) // 2 :]):
        assert share[:2] == ["long"] * 2
        assert all(share[at : at + 30].count("starts") in (5, 6, 7) for at in (2, 32, 62))
        assert "starts" not in share[-10:]
        assert "long" not in share[2:]


def shares(items: list[Item], workers: int) -> list[list[Item]]:
    """Return the share of each worker, as xdist makes it."""
    found = []
    for number in range(workers):
        size = len(items) // (workers - number)
        found.append(items[:size])
        items = items[size:]
    return found


@pytest.mark.parametrize("workers", [2, 3, 6])
def test_database_tests_are_in_one_worker(workers: int) -> None:
    """The server is started once. The other workers get more long tests, and each begins with its own."""
    items = [Item(kind) for kind in ["computes"] * 101 + ["long"] * 12 + ["starts"] * 40 + ["database"] * 7]
    found = [[item.kind for item in share] for share in shares(ordered(items, workers), workers)]
    assert [share.count("database") for share in found] == [7, *[0] * (workers - 1)]
    begun_with = [share.count("long") + share.count("database") for share in found]
    assert max(begun_with) <= max(7, min(begun_with) + 1)
    for share, count in zip(found, begun_with, strict=True):
        assert {*share[:count]} <= {"long", "database"}


def test_tests_of_one_kind_keep_their_order() -> None:
    """A worker runs each file from its beginning."""
    items = [Item("computes") for _ in range(7)]
    assert ordered(items, 1) == items


def test_fixtures_of_a_file_are_made_once() -> None:
    """A short file is in one worker, without other tests in between; a long one is divided into few parts."""
    files = {"a": 10, "b": 7, "c": 13, "d": 30, "e": 60}
    items = [Item("computes", file) for file, count in files.items() for _ in range(count)]
    found = ordered(items + [Item("starts") for _ in range(60)], 2)
    shares = found[: len(found) // 2], found[len(found) // 2 :]
    for file in "abcd":
        [share] = [
            share for share in shares if any(item.kind == "computes" and item.path == Path(file) for item in share)
        ]
        places = [at for at, item in enumerate(share) if item.kind == "computes" and item.path == Path(file)]
        together = places[: min(TOGETHER, files[file])]
        assert together == [*range(together[0], together[0] + len(together))]


def test_each_worker_collects_from_another_file(tmp_path: Path) -> None:
    """All of them collect the same tests, and have them in the same order afterwards."""
    for name in ("core", "rpc", "wire", "helpers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").touch()
    (tmp_path / "programs").mkdir()
    for name in ("conftest.py", "test_path.py"):
        (tmp_path / name).touch()
    found = [[Path(each).name for each in rotated(tmp_path, worker, 2)] for worker in range(2)]
    assert found[0] == ["core", "helpers", "rpc", "test_path.py", "wire"]
    assert found[1] == ["rpc", "test_path.py", "wire", "core", "helpers"]
    collected = [[Item("computes", file) for file in share for _ in range(2)] for share in found]
    orders = [in_order_of_files(cast(list[pytest.Item], share)) for share in collected]
    assert [[item.path for item in order] for order in orders] == [
        [Path(file) for file in found[0] for _ in range(2)]
    ] * 2
