"""The topics that a publisher has assigned to one listener."""

from __future__ import annotations

import pytest

from lightbus.events.listening.assignment import Assignment
from lightbus.wire.envelope import Assign, Open


def assign(generation: int, partitions: list[int], events: list[str]) -> Assign:
    return Assign("auth", "g", generation, partitions, events, 0.0, 0.0)


def test_change_reports_removed_partitions() -> None:
    """Partitions that are missing now, and each new pair of an event and a partition."""
    assignment = Assignment("auth", "g", None)
    assert assignment.change(assign(1, [0, 1], ["a", "b"])) == (frozenset(), set())
    assert assignment.change(assign(2, [1, 2], ["a"])) == (frozenset({0}), {("a", 0), ("b", 0), ("b", 1)})
    assert (assignment.generation, assignment.pairs) == (2, {("a", 1), ("a", 2)})


def test_complete_if_every_pair_is_followed() -> None:
    """An assigned topic that is not followed is missing; an empty assignment is complete, too."""
    assignment = Assignment("auth", "g", None)
    assert assignment.is_complete
    assignment.change(assign(1, [0, 1], ["a"]))
    assignment.followed |= {("a", 0)}
    assert not assignment.is_complete
    assignment.followed |= {("a", 1)}
    assert assignment.is_complete
    assignment.clear()
    assert (assignment.generation, assignment.pairs, assignment.followed) == (0, set(), set())


@pytest.mark.parametrize(
    ("group", "since", "expected"), [("g", "0", "$"), ("g", None, "$"), ("", "0", "0"), ("", None, "$")]
)
def test_question_about_heads_of_topics(group: str, since: str | None, expected: str) -> None:
    """A group knows its positions, so only a listener without one sends them; without topics there is no question."""
    assignment = Assignment("auth", group, since)
    assignment.generation = 3
    assert assignment.question(set(), 99) is None
    assert assignment.question({("b", 1), ("a", 2)}, 99) == Open("auth", group, 3, [1, 2], ["a", "b"], expected, 99)
