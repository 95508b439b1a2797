"""The queue of a listener: the streams with waiting events, and which stream is handled next."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.ordering import Order
from ...core.streams import Entry, Stream
from ...listener import Listener
from .invocation import AHEAD, TURN, Turn
from .listener_context import DeliverySource
from .live_positions import LivePositions

__all__ = ["MAX_QUEUED", "ListenerQueue", "Retry"]

logger = logging.getLogger("lightbus.listeners")

MAX_QUEUED = 10_000
"""Events of best effort queued for one slow listener before further ones are dropped, counted and reported."""

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of events queued for one listener; further ones stay in the journal."""


@dataclass(slots=True)
class Retry:
    """A failed event to be tried again: the number of its deliveries so far, and the pause before the next."""

    entry: Entry
    deliveries: int
    pause: float


class ListenerQueue:
    """
    The queue of one listener. Only touched from the node's loop.

    Sources put events into a `Stream` for each topic, and report that here (`ready`); the listener's tasks take them
    from the streams, turn by turn.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()
        """failed, retried, redelivered, dead_lettered, dropped, invalid."""
        self.handled_by: Counter[str] = Counter()
        """Number of handled events, by event name."""
        self.failed_by: Counter[str] = Counter()
        """Number of failures, by event name."""
        self.is_slow = False
        """Whether the listener did not keep up lately, so that reading does not wait for it."""
        self.waits = False
        """Whether no queued event can be delivered now, since an earlier one must be read first."""
        self.backlog = 0
        """Number of queued events."""
        self.backlog_bytes = 0
        self.sources: set[DeliverySource] = set()
        """The sources of events, one for each publisher."""
        self.positions: dict[Any, int] = {}
        """Without a group: the positions in topics that are not followed now, by topic."""
        self.live_positions = LivePositions()
        """The positions in topics of best effort that are not followed now."""
        self.is_closed = False
        """Whether no more events are handed out."""
        self.wake = asyncio.Event()
        """Set when there is something to do."""
        self.turns: dict[Stream, Turn] = {}
        """The unfinished turns of streams between whose events those of other streams are handled."""
        self._runnable: deque[Stream | Order[Stream]] = deque()
        self._retries: dict[Stream, Retry] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._active: dict[Any, Stream] = {}
        """By key: the stream whose event is being handled. Never two of one key, even after a new subscription."""
        self._blocked: dict[Any, Stream] = {}
        """By key: the stream that waits for the one being handled."""
        self._waiting_for_room: list[Stream] = []

    # Arriving events

    @property
    def is_full(self) -> bool:
        """Whether further events must stay in the journal."""
        return self.backlog_bytes >= MAX_BYTES

    def ready(self, stream: Stream, count: int, size: int) -> None:
        """Record that a stream has `count` more events of `size` bytes, and queue it for its next turn."""
        self.backlog += count
        self.backlog_bytes += size
        order = stream.order
        if order is not None:
            order.note(stream)
            if order.queued or self.is_closed:
                return
            order.queued = True
            self._runnable.append(order)
        else:
            if stream.queued or self.is_closed or not stream.can_deliver:
                return
            stream.queued = True
            self._runnable.append(stream)
        if not self.wake.is_set():
            self.wake.set()

    def requeue(self, stream: Stream) -> None:
        """Queue a stream, or others in one order with it, for the next turn, if an event may be delivered."""
        self.ready(stream, 0, 0)

    def queue(self, order: Order[Stream]) -> None:
        """Queue the streams of one journal that are delivered in order."""
        if not order.queued and not self.is_closed:
            order.queued = True
            self._runnable.append(order)
            if not self.wake.is_set():
                self.wake.set()

    def fetch_once_room(self, stream: Stream) -> None:
        """Record a stream that must fetch more once there is room."""
        self._waiting_for_room.append(stream)

    def forget(self, stream: Stream) -> None:
        """Drop the queued events of a stream that was revoked: its new owner gets them from the journal."""
        self._drop_waiting(stream)
        self.turns.pop(stream, None)
        if (order := stream.leave()) is not None:
            order.forget(stream)
            self.queue(order)  # other streams may have waited for it
        if self._retries.pop(stream, None) is not None:
            stream.put_back()
            stream.owner.retry(stream)
            self._leave(stream)

    def skip(self, stream: Stream, sequence: int) -> None:
        """Drop the queued events of a stream up to a sequence: they were handled elsewhere."""
        before = stream.size
        count = stream.skip(sequence)
        self._dequeued(count, before - stream.size)

    def drop(self, count: int) -> None:
        """Count events of best effort that were dropped because the queue is full."""
        self.counts["dropped"] += count
        dropped = self.counts["dropped"]
        if dropped - count < 1 or dropped // 1000 > (dropped - count) // 1000:
            logger.warning("The listener %s is too slow: %d events wait, %d were dropped",
                           self.listener, self.backlog, dropped)  # fmt: skip

    def close(self) -> None:
        """Hand out no more events."""
        self.is_closed = True
        self.wake.set()
        for timer in self._timers:
            timer.cancel()

    def forget_retries(self) -> None:
        """Leave the events that wait for a retry to the group."""
        for stream in list(self._retries):
            self.forget(stream)

    # Delivered events

    def next(self) -> tuple[Stream, float, Order[Stream] | None] | None:
        """
        Return the next turn; None if there is nothing to do.

        That is a stream, the sequence before which its events may be delivered, and the order that it is part of.
        """
        while self._runnable:
            chosen = self._runnable.popleft()
            if isinstance(chosen, Stream):
                # A stream of an order that is queued by itself only gets its retry.
                return chosen, math.inf if chosen.order is None else 0, None
            chosen.queued = False
            found = chosen.next()
            if found is not None:
                return *found, chosen
        return None

    def take(self, stream: Stream, before: float) -> Entry | None:
        """Return the next event of a stream, if its sequence is below `before`; None if none is to be delivered."""
        entry = stream.take(before)
        if entry is not None:
            self.backlog -= 1
            self.backlog_bytes -= len(entry[2])
        return entry

    def take_many(self, stream: Stream, before: float, most: int) -> list[Sequence[Any]]:
        """Take the next events of a stream that need no special handling, undecoded."""
        size = stream.size
        entries = stream.take_many(before, most if size <= AHEAD else 1)
        if entries:
            stream.in_progress = len(entries)
            self.backlog -= len(entries)
            self.backlog_bytes -= size - stream.size
        return entries

    def settle(self, stream: Stream, entries: list[Sequence[Any]], handled: int, *, is_one_failed: bool) -> None:
        """Record how many of several events were handled; return those after a failed one to the stream."""
        if rest := entries[handled + is_one_failed :]:
            size = stream.size
            stream.return_unstarted(rest)
            self.backlog += len(rest)
            self.backlog_bytes += stream.size - size
        if handled:
            stream.done(entries[handled - 1], handled)
            self.handled_by[stream.key[1]] += handled

    def begin(self, stream: Stream) -> bool:
        """Begin with a stream's events; if another stream of its key is being handled, return False and wait for it."""
        stream.queued = False
        if self._active.get(stream.key, stream) is not stream:
            self._blocked[stream.key] = stream
            return False
        self._active[stream.key] = stream
        return True

    def end(self, stream: Stream, turn: Turn, count: int, *, is_going_on: bool) -> None:
        """Record the end of a turn with `count` events; the stream continues, unless an event of it is retried."""
        self._dequeued(0, 0)
        if count and not stream.in_progress:
            stream.owner.after_turn(stream)
        turn.count += count
        if stream.order is not None and stream.ready and turn.count < TURN:
            self.turns[stream] = turn
        if is_going_on or not stream.in_progress:
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        """Record that no event of a stream is being handled; queue it, and the stream that waited for it."""
        self._active.pop(stream.key, None)
        self.requeue(stream)
        if (blocked := self._blocked.pop(stream.key, None)) is not None:
            self.requeue(blocked)

    def done(self, stream: Stream, entry: Entry) -> bool:
        """Record that an event was handled, or needs no handling; return True: the stream continues."""
        stream.done(entry)
        self.handled_by[stream.key[1]] += 1
        stream.owner.ack(stream)
        if stream.head > stream.position:  # fetch more before the queued events are handled
            stream.owner.fetch_more(stream)
        return True

    def put_back(self, stream: Stream) -> bool:
        """Leave the event in progress, and later ones, to the next owner; return False: the stream does not go on."""
        self._drop_waiting(stream)
        stream.put_back()
        stream.owner.retry(stream)
        return False

    def retry_later(self, stream: Stream, retry: Retry) -> None:
        """Queue a stream after a pause, with the same event."""
        self.counts["retried"] += 1
        self._retries[stream] = retry

        def resume() -> None:
            self._timers.discard(timer)
            if stream in self._retries and not self.is_closed:
                stream.queued = True
                self._runnable.append(stream)
                self.wake.set()

        timer = asyncio.get_running_loop().call_later(retry.pause, resume)
        self._timers.add(timer)

    def take_retry(self, stream: Stream) -> Retry | None:
        """Remove and return the retry of a stream, if there is one."""
        return self._retries.pop(stream, None)

    def _drop_waiting(self, stream: Stream) -> None:
        self._dequeued(len(stream.ready), stream.size)

    def _dequeued(self, count: int, size: int) -> None:
        self.backlog -= count
        self.backlog_bytes -= size
        if self._waiting_for_room and self.backlog_bytes < MAX_BYTES // 2:
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for stream in waiting:
                stream.owner.fetch_more(stream)
