"""Chooses the partition of an event at its publisher: by its key; without one, the partitions in turn."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...adapters.sqlite.topic import Topic
from ...core.partitions import partition_of
from ...wire import envelope
from ...wire.envelope import PARTITIONS

__all__ = ["CROWDED", "IN_CROWD", "TOGETHER", "TURN_AFTER", "PartitionTurns"]

TURN_AFTER = 16
"""Events without a key that go to one partition before the next one is used, within one tick of the loop."""

TOGETHER = 64
"""The same for events fired together; also more under sustained load."""

IN_CROWD = 128
"""The same under sustained load: as many events as a listener handles in one turn."""

CROWDED = 8
"""
Ticks in a row with at least `TOGETHER` events that count as sustained load. Then larger runs share messages and rows of
the journal, and each partition is still used soon. A single burst is spread over the partitions instead, for listeners
that handle several events at a time.
"""


class PartitionTurns:
    """Chooses partitions. Not thread-safe: its owner locks it."""

    def __init__(self) -> None:
        self._turn = int.from_bytes(os.urandom(1), "big")
        self._after = TURN_AFTER
        self._crowded = 0
        """Ticks in a row with at least `TOGETHER` events."""
        self._topics: dict[tuple[str, str], list[tuple[bytes, Topic]]] = {}

    def topic(self, names: tuple[str, str], key: str | None, count: int) -> tuple[bytes, Topic]:
        """Return the topic for an event, by its API and name; `count` events were fired in this tick before."""
        topics = self._topics.get(names) or self._make_topics(*names)
        if key is not None:
            return topics[partition_of(key, PARTITIONS)]
        return topics[(self._turn + count // self._after) % PARTITIONS]

    def spread(self, names: tuple[str, str], keys: Sequence[str | None], count: int) -> list[tuple[bytes, Topic]]:
        """Return the topics for events that are fired together: by their keys; without keys, runs of one topic."""
        topics = self._topics.get(names) or self._make_topics(*names)
        turn = self._turn + count // self._after
        self._turn += _even(len(keys))
        return [
            topics[(turn + number // TOGETHER) % PARTITIONS if key is None else partition_of(key, PARTITIONS)]
            for number, key in enumerate(keys)
        ]

    def runs(self, names: tuple[str, str], records: list[bytes], count: int) -> list[tuple[bytes, Topic, list[bytes]]]:
        """Return runs of records of events without keys, each with its topic."""
        topics = self._topics.get(names) or self._make_topics(*names)
        turn, together = self._turn + count // self._after, max(TOGETHER, self._after)
        self._turn += _even(len(records), together)
        return [
            (*topics[(turn + start // together) % PARTITIONS], records[start : start + together])
            for start in range(0, len(records), together)
        ]

    def end_tick(self, count: int) -> None:
        """Go on to the next partition, after a tick with so many events."""
        # An odd step and an even number of partitions, so that each partition is first equally often.
        self._turn += -(-count // self._after) | 1
        self._crowded = self._crowded + 1 if count >= TOGETHER else 0
        self._after = IN_CROWD if self._crowded >= CROWDED else TURN_AFTER

    def _make_topics(self, api: str, event: str) -> list[tuple[bytes, Topic]]:
        topics = [
            (envelope.event_topic(api, event, partition), Topic(api, event, partition))
            for partition in range(PARTITIONS)
        ]
        self._topics[api, event] = topics
        return topics


def _even(count: int, together: int = TOGETHER) -> int:
    """Return the number of partitions that so many events of one batch use, rounded up to an even number."""
    partitions = -(-count // together)
    return partitions + partitions % 2
