"""The order in which the events of one journal are delivered: by their sequences, across all topics.

For a listener that handles one event at a time and follows all partitions. Its streams are merged: the stream whose
next event has the lowest sequence has its turn, unless another may have an earlier event that has not arrived. Two
facts show such a gap: a stream whose head is ahead of its position awaits events; and each published message names
the sequence that it follows (`Watermark`), so that a lost message is noticed even if the next one is of another topic.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["ATTEMPTS", "Order", "Ordered", "Watermark"]

MAX_LATER = 1000
"""Messages after a gap whose extent is remembered."""

ATTEMPTS = 3
"""Failed attempts to fetch missing events, after which later ones are delivered without them."""


class Watermark:
    """The sequence up to which all events of one name in one journal are known. Only touched from its loop."""

    __slots__ = ("_attempts", "_later", "upto")

    def __init__(self, upto: float = 0) -> None:
        self.begin(upto)

    def begin(self, upto: float) -> None:
        """Start from here: infinite if order is not tracked."""
        self.upto = upto
        self._later: list[list[int]] = []
        self._attempts = 0

    @property
    def lacks(self) -> bool:
        """Whether a message was lost, so that the heads of the topics must be fetched."""
        return bool(self._later)

    def published(self, follows: int, complete: int) -> bool:
        """
        Record a message that follows all events up to `follows`; no further event up to `complete` will arrive.

        Return whether that allows more events to be delivered.
        """
        if follows <= self.upto:
            is_more = complete > self.upto
            if is_more:
                self.upto = complete
            return is_more
        if self._later and self._later[-1][1] >= follows:
            self._later[-1][1] = max(complete, self._later[-1][1])
        elif len(self._later) < MAX_LATER:
            self._later.append([follows, complete])
        return False

    def answered(self, head: int) -> None:
        """Record the sequence of the newest event of all topics, after each stream was given its own head."""
        self.upto = max(self.upto, head)
        while self._later and self._later[0][0] <= self.upto:
            self.upto = max(self.upto, self._later.pop(0)[1])
            self._attempts = 0

    def failed(self) -> None:
        """Record that there was no useful answer. After some attempts the received events are delivered as they are."""
        self._attempts += 1
        if self._attempts >= ATTEMPTS:
            self.begin(max([self.upto, *(complete for _, complete in self._later)]))


class Ordered(Protocol):
    """The facts of a stream that decide when it has its turn."""

    ready: deque[Any]
    """The events that wait, each with its sequence first."""
    in_progress: int
    """How many of its events are being handled, or wait for a retry."""
    watermark: Watermark | None
    position: int
    """All events up to this sequence have arrived."""

    @property
    def can_deliver(self) -> bool:
        """Whether an event may be delivered now."""

    @property
    def awaits_events(self) -> bool:
        """Whether it has more events, and none of them has arrived."""


S = TypeVar("S", bound=Ordered)


class Order(Generic[S]):
    """The streams of one journal that a listener follows. Only touched from the loop they belong to."""

    __slots__ = ("_awaiting", "_first", "_waiting", "queued")

    def __init__(self) -> None:
        self.queued = False
        """Whether it waits for its turn; set by the queue that gives turns."""
        self._waiting: list[tuple[int, int, S]] = []
        self._first: dict[S, int] = {}
        """The sequence with which a stream waits: its other entries in the heap are outdated."""
        self._awaiting: set[S] = set()

    def note(self, stream: S) -> None:
        """Record that a stream has an event ready, or awaits events, or no longer does."""
        if stream.ready and not stream.in_progress:
            first = stream.ready[0][0]
            self._awaiting.discard(stream)
            if self._first.get(stream) != first:
                self._first[stream] = first
                heapq.heappush(self._waiting, (first, id(stream), stream))
            return
        self._first.pop(stream, None)
        if stream.awaits_events:
            self._awaiting.add(stream)
        else:
            self._awaiting.discard(stream)

    def forget(self, stream: S) -> None:
        """Stop waiting for a stream."""
        self._first.pop(stream, None)
        self._awaiting.discard(stream)

    def next(self) -> tuple[S, float] | None:
        """
        Return the stream that has its turn, and the sequence before which it has it; None if there is none.

        The caller must `note` a returned stream again.
        """
        first = self._front()
        if first is None:
            return None
        stream = first[2]
        if not stream.can_deliver:
            return None  # no other stream may overtake it: it continues once its acknowledgements are confirmed
        # An event is safe to deliver only below every sequence that may still arrive: the first one above the
        # watermark, or the next one of a stream that awaits events.
        upto = math.inf if stream.watermark is None else stream.watermark.upto
        before = min([upto + 1, *(other.position + 1 for other in self._awaiting)])
        if first[0] >= before:
            return None
        heapq.heappop(self._waiting)
        del self._first[stream]
        second = self._front()
        return stream, before if second is None else min(before, second[0])

    def _front(self) -> tuple[int, int, S] | None:
        waiting = self._waiting
        while waiting:
            first, _, stream = waiting[0]
            if self._first.get(stream) == first:
                if stream.ready and stream.ready[0][0] == first and not stream.in_progress:
                    return waiting[0]
                heapq.heappop(waiting)
                del self._first[stream]
                self.note(stream)
            else:
                heapq.heappop(waiting)
        return None
