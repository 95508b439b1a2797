"""The position of a group in one journal: what it has handled, and what it may have. Facts in, changes to store out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Cursors", "Standing"]

K = TypeVar("K")


class Standing(NamedTuple):
    """
    The state of a topic for a group.

    Attributes:
        cursor: all events up to this sequence were handled.
        head: the newest sequence.
        possibly_delivered: a member may have started, but not finished, events after the cursor up to this sequence.

    """

    cursor: int
    head: int
    possibly_delivered: int


class Cursors(Generic[K]):
    """
    The positions of one group in one journal, by topic. Only touched from the loop it belongs to.

    Of a topic without a position nothing is handled: topics that existed when the group was created were given one at
    that time.

    Args:
        acked: the cursors stored in the journal.

    """

    def __init__(self, acked: Mapping[K, int]) -> None:
        self.acked: dict[K, int] = dict(acked)
        self._possibly_delivered: dict[K, int] = {}

    def begin(self, topic: K, position: int) -> bool:
        """Set the first position of a topic, unless it has one; return whether to store it."""
        if topic in self.acked or position <= 0:
            return False
        self.acked[topic] = position
        return True

    def acknowledge(self, topic: K, sequence: int) -> bool:
        """Record that all events up to here were handled; return whether that is new, and must be stored."""
        if sequence <= self.acked.get(topic, 0):
            return False
        self.acked[topic] = sequence
        if self._possibly_delivered.get(topic, 0) <= sequence:
            self._possibly_delivered.pop(topic, None)
        return True

    def mark_in_flight(self, heads: Iterable[tuple[K, int]]) -> None:
        """Record that the member with these topics is gone: it may have started any event up to these sequences."""
        for topic, head in heads:
            if head > self.acked.get(topic, 0):
                self._possibly_delivered[topic] = max(head, self._possibly_delivered.get(topic, 0))

    def adopt_reported(self, topic: K, sequence: int) -> bool:
        """
        Record that a live member had a topic and has handled it up to here; return whether to store that.

        It has not started the events that it has not handled: none is in flight. A report below the cursor is outdated.
        """
        if sequence >= self.acked.get(topic, 0):
            self._possibly_delivered.pop(topic, None)
        return self.acknowledge(topic, sequence)

    def standing(self, topic: K, head: int, failed: int = 0) -> Standing:
        """Return the state of a topic; `failed`: the last sequence with a recorded delivery."""
        cursor = min(self.acked.get(topic, 0), head)
        possibly_delivered = max(failed, self._possibly_delivered.get(topic, 0))
        return Standing(cursor, head, possibly_delivered if possibly_delivered > cursor else 0)
