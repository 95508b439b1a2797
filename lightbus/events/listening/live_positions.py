"""Up to where topics of best effort came at publishers that are not followed at the moment. No I/O.

A publisher is lost and found again, and a listener is taken for gone and is not: what was published meanwhile is in no
journal, and is counted as missed once the topic is heard of again.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ..groups.group_records import TopicKey

__all__ = ["MAX_TOPICS", "LivePositions"]

MAX_TOPICS = 10_000
"""Topics that are remembered of publishers which do not come again; the oldest are forgotten first."""


class LivePositions:
    """
    What one listener remembers, of all publishers. Only touched from the node's loop.

    A publisher is known by its instance: one that is started again counts from 1.
    """

    def __init__(self) -> None:
        self._positions: dict[tuple[str, TopicKey], int] = {}

    def note(self, publisher: str, key: TopicKey, position: int) -> None:
        """Record up to which event a topic came."""
        self._positions.pop((publisher, key), None)
        self._positions[publisher, key] = position
        while len(self._positions) > MAX_TOPICS:
            del self._positions[next(iter(self._positions))]

    def take(self, publisher: str, key: TopicKey) -> int:
        """Return up to which event a topic came that is followed again; 0 where nothing is known of it."""
        return self._positions.pop((publisher, key), 0)

    def forget(self, publisher: str, partitions: AbstractSet[int]) -> None:
        """Forget the topics of partitions that were given back: their events are for other members."""
        gone = [each for each in self._positions if each[0] == publisher and each[1][2] in partitions]
        for each in gone:
            del self._positions[each]
