"""How far a group has come in one journal: acknowledged, possibly delivered, owed. Facts in, what to store out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Cursors", "Standing"]

K = TypeVar("K")


class Standing(NamedTuple):
    """
    The state of a topic for a group.

    Attributes:
        cursor: everything up to this sequence was handled.
        head: the newest sequence.
        possibly_delivered: events after the cursor and up to here may have been begun, but not finished, by a member.

    """

    cursor: int
    head: int
    possibly_delivered: int


class Cursors(Generic[K]):
    """
    The positions of one group in one journal, by topic. Only touched from the loop it belongs to.

    A topic without a position is owed from its beginning: one that was there when the group was created has been given
    one at that time.

    Args:
        acked: what the journal has stored.

    """

    def __init__(self, acked: Mapping[K, int]) -> None:
        self.acked: dict[K, int] = dict(acked)
        self._possibly_delivered: dict[K, int] = {}

    def begin(self, topic: K, position: int) -> bool:
        """Set where a topic begins, unless it has begun already; return whether that is to be stored."""
        if topic in self.acked or position <= 0:
            return False
        self.acked[topic] = position
        return True

    def acknowledge(self, topic: K, sequence: int) -> bool:
        """Record that everything up to here was handled; return whether that is news, and to be stored."""
        if sequence <= self.acked.get(topic, 0):
            return False
        self.acked[topic] = sequence
        if self._possibly_delivered.get(topic, 0) <= sequence:
            self._possibly_delivered.pop(topic, None)
        return True

    def mark_in_flight(self, heads: Iterable[tuple[K, int]]) -> None:
        """Record that the member with these topics is gone: all up to these sequences may have been begun."""
        for topic, head in heads:
            if head > self.acked.get(topic, 0):
                self._possibly_delivered[topic] = max(head, self._possibly_delivered.get(topic, 0))

    def adopt_reported(self, topic: K, sequence: int) -> bool:
        """
        Record that a live member had a topic and has handled it up to here; return whether to store that.

        What it has not handled it has not begun: nothing is in flight. A word that is behind the cursor is an old one.
        """
        if sequence >= self.acked.get(topic, 0):
            self._possibly_delivered.pop(topic, None)
        return self.acknowledge(topic, sequence)

    def standing(self, topic: K, head: int, failed: int = 0) -> Standing:
        """Return the state of a topic; `failed`: the last sequence of which a delivery is on record."""
        cursor = min(self.acked.get(topic, 0), head)
        possibly_delivered = max(failed, self._possibly_delivered.get(topic, 0))
        return Standing(cursor, head, possibly_delivered if possibly_delivered > cursor else 0)
