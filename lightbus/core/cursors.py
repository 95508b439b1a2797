"""How far one consumer group has come in one journal: acknowledged, doubtful, owed. Facts in, what to store out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Cursors", "Standing"]

K = TypeVar("K")


class Standing(NamedTuple):
    """
    Where a topic stands for a group.

    Attributes:
        cursor: everything up to this sequence was handled.
        head: the newest sequence.
        doubtful: up to this one events behind the cursor may have been begun by somebody who did not finish them.

    """

    cursor: int
    head: int
    doubtful: int


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
        self._doubtful: dict[K, int] = {}

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
        if self._doubtful.get(topic, 0) <= sequence:
            self._doubtful.pop(topic, None)
        return True

    def mark_in_flight(self, heads: Iterable[tuple[K, int]]) -> None:
        """Record that whoever had these topics is gone: all up to these sequences may have been begun."""
        for topic, head in heads:
            if head > self.acked.get(topic, 0):
                self._doubtful[topic] = max(head, self._doubtful.get(topic, 0))

    def adopt_reported(self, topic: K, sequence: int) -> bool:
        """
        Record that somebody lives who had a topic, and has handled it up to here; return whether that is to be stored.

        What it has not handled it has not begun: nothing is in flight. A word that is behind the cursor is an old one.
        """
        if sequence >= self.acked.get(topic, 0):
            self._doubtful.pop(topic, None)
        return self.acknowledge(topic, sequence)

    def standing(self, topic: K, head: int, failed: int = 0) -> Standing:
        """Return where a topic stands; `failed`: the last sequence of which a delivery is on record."""
        cursor = min(self.acked.get(topic, 0), head)
        doubtful = max(failed, self._doubtful.get(topic, 0))
        return Standing(cursor, head, doubtful if doubtful > cursor else 0)
