"""The order of tests that run side by side."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.order import side_by_side


class Item:
    """A test: one that takes long, one that starts programs, or one that computes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fixturenames = ("processes",) if kind == "starts" else ()

    def get_closest_marker(self, name: str) -> bool:
        """Return whether it has a mark."""
        return (name, self.kind) == ("long", "long")


def ordered(kinds: list[str], workers: int) -> list[Item]:
    """Return items of these kinds in their order for so many workers."""
    items = [Item(kind) for kind in kinds]
    return cast(list[Item], side_by_side(cast(list[pytest.Item], items), workers))


@given(st.lists(st.sampled_from(["long", "starts", "computes"])), st.integers(1, 5))
def test_none_is_left_out(kinds: list[str], workers: int) -> None:
    """Nor is any there twice, whatever they are."""
    found = ordered(kinds, workers)
    assert sorted(item.kind for item in found) == sorted(kinds)
    assert len({*found}) == len(kinds)


def test_each_worker_begins_with_those_that_take_long() -> None:
    """Then the others are spread over its share, and at the end none is left that waits."""
    kinds = ["computes"] * 200 + ["long"] * 4 + ["starts"] * 40
    found = [item.kind for item in ordered(kinds, 2)]
    for share in (found[: len(found) // 2], found[len(found) // 2 :]):
        assert share[:2] == ["long"] * 2
        assert all(share[at : at + 30].count("starts") in (5, 6) for at in (2, 32, 62))
        assert "starts" not in share[-10:]
        assert "long" not in share[2:]


def test_those_of_one_kind_stay_in_their_order() -> None:
    """A worker takes each file from its beginning."""
    items = [Item("computes") for _ in range(7)]
    assert side_by_side(cast(list[pytest.Item], items), 1) == cast(list[pytest.Item], items)
