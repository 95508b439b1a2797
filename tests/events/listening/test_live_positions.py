"""Positions in topics of best effort are remembered while these are not followed, and no longer."""

from __future__ import annotations

import pytest

from lightbus.events.listening import live_positions as module
from lightbus.events.listening.live_positions import LivePositions

A, B = "a" * 16, "b" * 16
FIRST, SECOND = ("", "loose", 1), ("", "loose", 2)


def test_a_position_is_returned_once() -> None:
    """From then on the stream knows it. Each publisher counts separately."""
    positions = LivePositions()
    positions.note(A, FIRST, 7)
    positions.note(A, SECOND, 8)
    assert [positions.take(B, FIRST), positions.take(A, FIRST), positions.take(A, FIRST)] == [0, 7, 0]
    assert positions.take(A, SECOND) == 8


def test_released_partitions_are_forgotten() -> None:
    """At the publisher that they were released to."""
    positions = LivePositions()
    for publisher in (A, B):
        positions.note(publisher, FIRST, 7)
        positions.note(publisher, SECOND, 8)
    positions.forget(A, frozenset({1}))
    assert [positions.take(A, FIRST), positions.take(A, SECOND)] == [0, 8]
    assert [positions.take(B, FIRST), positions.take(B, SECOND)] == [7, 8]


def test_the_oldest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers that never return take bounded memory; a position that is stored again is the newest."""
    monkeypatch.setattr(module, "MAX_TOPICS", 2)
    positions = LivePositions()
    positions.note(A, FIRST, 1)
    positions.note(A, SECOND, 2)
    positions.note(A, FIRST, 3)
    positions.note(B, FIRST, 4)
    assert [positions.take(A, FIRST), positions.take(A, SECOND), positions.take(B, FIRST)] == [3, 0, 4]
