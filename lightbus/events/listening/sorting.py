"""Merges the streams of a listener at one publisher in the order of the journals' sequences, across partitions.

That is possible if one process has all partitions of its group, and handles one event at a time. If it has only some,
each partition is ordered by itself, and no stream waits for another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...core.ordering import ATTEMPTS, Order, Watermark
from ...core.streams import Stream
from ...wire.envelope import PARTITIONS, Streams

__all__ = ["Sorting"]


class Sorting:
    """The order of the streams of one subscription. Only touched from the node's loop."""

    def __init__(self) -> None:
        self.is_whole = False
        """Whether all partitions are ours."""
        self.is_unknown = False
        """Whether all positions must be fetched, since all partitions have only just become ours."""
        self._orders: dict[str, Order[Stream]] = {}
        """The order of each journal."""
        self._watermarks: dict[tuple[str, str], Watermark] = {}
        """The watermarks by journal and event."""
        self._heads: dict[tuple[str, str], int] = {}
        self._covered: set[int] = set()
        """The latest reported positions, and the partitions that they are complete for."""
        self._attempts = 0

    @property
    def orders(self) -> Iterable[Order[Stream]]:
        """The order of each journal."""
        return self._orders.values()

    @property
    def lacks(self) -> bool:
        """Whether all positions must be fetched."""
        return self.is_unknown or any(each.lacks for each in self._watermarks.values())

    def place(self, journal: str, event: str) -> tuple[Order[Stream], Watermark]:
        """Return the order of a stream's journal, and the watermark of its event."""
        return self._orders.setdefault(journal, Order()), self._watermark(journal, event)

    def assigned(self, partitions: Iterable[int]) -> None:
        """Record our partitions."""
        is_whole = len(set(partitions)) == PARTITIONS
        if is_whole != self.is_whole:
            self.is_whole = self.is_unknown = is_whole
            self._attempts = 0
            self._covered.clear()
            self._heads.clear()
            for watermark in self._watermarks.values():
                watermark.begin(0 if is_whole else math.inf)

    def published(self, journal: str, event: str, follows: int, complete: int) -> bool:
        """Record how a message follows earlier ones (see `Watermark`); return whether more events may be delivered."""
        if not self.is_whole:
            return False
        watermark = self._watermark(journal, event)
        if complete == 0:  # the publisher does not report it
            watermark.begin(math.inf)
            return True
        return watermark.published(follows, complete)

    def on_streams(self, message: Streams) -> None:
        """Record positions of topics; used once all partitions are reported, maybe in several messages."""
        if not self.is_whole:
            return
        for journal, event, _, _, head, _ in message.streams:
            self._heads[journal, event] = max(head, self._heads.get((journal, event), 0))
        self._covered.update(message.partitions)
        if len(self._covered) >= PARTITIONS:
            for name, head in self._heads.items():
                self._watermark(*name).answered(head)
            self._covered.clear()
            self._heads.clear()
            self.is_unknown = False

    def failed(self) -> None:
        """Record that a request failed. After some attempts, missing events are no longer waited for."""
        for watermark in self._watermarks.values():
            if watermark.lacks:
                watermark.failed()
        if self.is_unknown:
            self._attempts += 1
            if self._attempts >= ATTEMPTS:
                self.is_unknown = False
                for watermark in self._watermarks.values():
                    watermark.begin(math.inf)

    def _watermark(self, journal: str, event: str) -> Watermark:
        found = self._watermarks.get((journal, event))
        if found is None:
            found = self._watermarks[journal, event] = Watermark(0 if self.is_whole else math.inf)
        return found

    def clear(self) -> None:
        """Drop all state."""
        self.is_whole = self.is_unknown = False
        self._orders.clear()
        self._watermarks.clear()
        self._covered.clear()
        self._heads.clear()
