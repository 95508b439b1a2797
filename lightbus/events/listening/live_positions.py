"""Positions in topics of best effort at publishers that are not followed now. No I/O.

A publisher may be lost and found again, or may lose this listener for a while. Events published meanwhile are in no
journal; they are counted as missed when the topic is followed again.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ..groups.group_records import TopicKey

__all__ = ["MAX_TOPICS", "LivePositions"]

MAX_TOPICS = 10_000
"""Topics that are remembered; beyond that the oldest are dropped. Some publishers never return."""


class LivePositions:
    """
    The positions of one listener at all publishers. Only touched from the node's loop.

    Publishers are identified by instance: one that is restarted counts from 1.
    """

    def __init__(self) -> None:
        self._positions: dict[tuple[str, TopicKey], int] = {}

    def note(self, publisher: str, key: TopicKey, position: int) -> None:
        """Record the position in a topic."""
        self._positions.pop((publisher, key), None)
        self._positions[publisher, key] = position
        while len(self._positions) > MAX_TOPICS:
            del self._positions[next(iter(self._positions))]

    def take(self, publisher: str, key: TopicKey) -> int:
        """Remove and return the position in a topic that is followed again; 0 if it is unknown."""
        return self._positions.pop((publisher, key), 0)

    def forget(self, publisher: str, partitions: AbstractSet[int]) -> None:
        """Drop the topics of partitions that were given back: other members get their events."""
        gone = [each for each in self._positions if each[0] == publisher and each[1][2] in partitions]
        for each in gone:
            del self._positions[each]
