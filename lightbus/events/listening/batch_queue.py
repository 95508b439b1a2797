"""The queue of a listener that takes batches, including the rest of batches of which some events failed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from ...core.ordering import Order
from ...core.streams import UNCONFIRMED, Entry, Stream, entry_of
from ...listener import Listener
from .listener_queue import ListenerQueue

__all__ = ["BatchQueue", "Chunk", "Leftover", "NextTurn"]

NextTurn = tuple[Stream, float, Order[Stream] | None]
"""The next turn, as `ListenerQueue.next` returns it."""


class Leftover(NamedTuple):
    """An event of a batch after one that is retried. Whether it `failed` or not, it waits for that one."""

    entry: Entry
    failed: bool


class Chunk(NamedTuple):
    """The events of one stream in a batch, in order."""

    stream: Stream
    entries: list[Entry]


class BatchQueue(ListenerQueue):
    """
    The queue of one listener that takes batches. Only touched from the node's loop.

    Attributes:
        is_filled: set when enough events are queued for a batch.

    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self.is_filled = asyncio.Event()
        self._leftovers: dict[Stream, deque[Leftover]] = {}

    def ready(self, stream: Stream, count: int, size: int) -> None:
        super().ready(stream, count, size)
        if self.has_enough(stream):
            self.is_filled.set()

    def has_enough(self, stream: Stream) -> bool:
        """Return whether a whole batch is queued, or as many events of the stream, or of all, as are queued at most."""
        return self.backlog >= self.listener.batch or len(stream.ready) >= UNCONFIRMED or self.is_full

    def close(self) -> None:
        super().close()
        self.is_filled.set()

    # One event at a time

    def is_delivered_alone(self, stream: Stream) -> bool:
        """Return whether a stream's next event must be delivered alone: it may have failed before, maybe in a batch."""
        return stream in self._retries or stream.is_next_possibly_delivered

    def return_turn(self, next_turn: NextTurn) -> None:
        """
        Give a turn back: the following `next` returns the same stream.

        The stream keeps its place at the front. At the end of the queue, two streams could displace each other for
        ever: one whose next event must be delivered alone, and one whose next event must not.
        """
        stream, _, order = next_turn
        if order is not None:
            order.note(stream)
            order.queued = True
            self._runnable.appendleft(order)
        else:
            stream.queued = True
            self._runnable.appendleft(stream)

    # Batches

    def take_batch(self) -> list[Chunk]:
        """Return the next events to handle together, by stream."""
        chunks: list[Chunk] = []
        counts: dict[Stream, int] = {}
        left = 0 if self.is_closed else self.listener.batch
        while left and (next_turn := self.next()) is not None:
            stream, before, order = next_turn
            if self.is_delivered_alone(stream):
                self.return_turn(next_turn)
                break
            taken: list[Entry] = []
            if is_ours := stream in counts or self.begin(stream):
                taken = [*map(entry_of, stream.take_many(before, left, counts.get(stream, 0)))]
                chunks.append(Chunk(stream, taken))
                counts[stream] = counts.get(stream, 0) + len(taken)
                left -= len(taken)
            if order is not None:
                self.queue(order)
                if is_ours:
                    order.note(stream)
                    if not taken:
                        break  # others must not overtake it
        for stream, count in counts.items():
            if count:
                stream.in_progress = count
            else:
                self._leave(stream)
        for _, taken in chunks:
            self.backlog -= len(taken)
            self.backlog_bytes -= sum([len(entry[2]) for entry in taken])
        return [chunk for chunk in chunks if chunk.entries]

    def handled(self, stream: Stream, entries: list[Entry]) -> None:
        """Record that the first ones of a stream's events in progress were handled."""
        if entries:
            stream.done(entries[-1], len(entries))
            self.handled_by[stream.key[1]] += len(entries)
            stream.owner.ack(stream)

    def end_of_batch(self, stream: Stream) -> None:
        """Record the end of a stream's part of a batch, unless an event of it waits for a retry."""
        self._dequeued(0, 0)
        if not stream.in_progress:
            stream.owner.after_turn(stream)
        if stream not in self._retries:
            self._leave(stream)

    # The rest of failed batches

    def keep_leftovers(self, stream: Stream, rest: list[Leftover]) -> None:
        """Keep the events after one that is retried until that is done; drop them if it was put back."""
        if failed := sum(each.failed for each in rest):
            self.counts["failed"] += failed
            self.failed_by[stream.key[1]] += failed
        if rest and stream in self._retries:
            self._leftovers[stream] = deque(rest)

    def next_leftover(self, stream: Stream) -> Leftover | None:
        """Return the next event of a batch that failed in part, after the one before it is done."""
        left = self._leftovers.get(stream)
        if not left:
            self._leftovers.pop(stream, None)
            return None
        return left.popleft()

    def forget(self, stream: Stream) -> None:
        self._leftovers.pop(stream, None)
        super().forget(stream)

    def put_back(self, stream: Stream) -> bool:
        self._leftovers.pop(stream, None)
        return super().put_back(stream)
