"""What waits for a listener, and whose turn it is: the streams of its events, one event of each at a time."""

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
"""Events of best effort that wait for one slow listener before further ones are dropped, counted and reported."""

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of the events that wait for one listener; further ones wait in the journal."""


@dataclass(slots=True)
class Retry:
    """An event that failed and is tried again: how often it was given, and how long it was waited before."""

    entry: Entry
    deliveries: int
    pause: float


class ListenerQueue:
    """
    What waits for one listener. Only touched from the node's loop.

    Those that bring events put them into a `Stream` for each topic and say so here (`ready`); the listener's tasks take
    them from there, turn by turn.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()
        """failed, retried, redelivered, dead_lettered, dropped, invalid."""
        self.handled_by: Counter[str] = Counter()
        """How many were handled, by event."""
        self.failed_by: Counter[str] = Counter()
        """How often handling one failed, by event."""
        self.is_slow = False
        """Whether it did not keep up lately, and is no longer waited for."""
        self.waits = False
        """Whether no waiting event may be delivered now: an earlier one has to be read first."""
        self.backlog = 0
        """How many events wait."""
        self.backlog_bytes = 0
        self.sources: set[DeliverySource] = set()
        """What brings its events: one for each publisher."""
        self.positions: dict[Any, int] = {}
        """Without a group: up to where topics were handled that are not followed at the moment, by their keys."""
        self.live_positions = LivePositions()
        """Up to where topics of best effort came that are not followed at the moment."""
        self.is_closed = False
        """Whether nothing more is handed out."""
        self.wake = asyncio.Event()
        """Set when there is something to do."""
        self.turns: dict[Stream, Turn] = {}
        """Of streams that wait for others to be handled between their own events."""
        self._runnable: deque[Stream | Order[Stream]] = deque()
        self._retries: dict[Stream, Retry] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._at_hand: dict[Any, Stream] = {}
        """Per key the stream whose event is being handled: never two of one key, even after another subscription."""
        self._blocked: dict[Any, Stream] = {}
        """Per key the stream that waits for the one at hand."""
        self._starving: list[Stream] = []

    # Arriving events

    @property
    def is_full(self) -> bool:
        """Whether arriving events have to stay where they are stored."""
        return self.backlog_bytes >= MAX_BYTES

    def ready(self, stream: Stream, count: int, size: int) -> None:
        """Note that a stream has so many events more, of so many bytes, and give it its turn."""
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

    def go_on(self, stream: Stream) -> None:
        """Give a stream its turn, if an event of it may be handed out; or another one that waited for it."""
        self.ready(stream, 0, 0)

    def queue(self, order: Order[Stream]) -> None:
        """Give its turn to the next one of the streams of a journal."""
        if not order.queued and not self.is_closed:
            order.queued = True
            self._runnable.append(order)
            if not self.wake.is_set():
                self.wake.set()

    def starve(self, stream: Stream) -> None:
        """Note a stream that may have more once there is room."""
        self._starving.append(stream)

    def forget(self, stream: Stream) -> None:
        """Drop what waits of a stream: it is kept elsewhere, and left to its new owner."""
        self._drop_waiting(stream)
        self.turns.pop(stream, None)
        if (order := stream.leave()) is not None:
            order.forget(stream)
            self.queue(order)  # others may have waited for it
        if self._retries.pop(stream, None) is not None:
            stream.put_back()
            stream.owner.retry(stream)
            self._leave(stream)

    def skip(self, stream: Stream, sequence: int) -> None:
        """Drop what waits of a stream up to a sequence: it was handled elsewhere."""
        before = stream.size
        count = stream.skip(sequence)
        self._took(count, before - stream.size)

    def drop(self, count: int) -> None:
        """Note that there was no room for events of best effort."""
        self.counts["dropped"] += count
        dropped = self.counts["dropped"]
        if dropped - count < 1 or dropped // 1000 > (dropped - count) // 1000:
            logger.warning("The listener %s is too slow: %d events wait, %d were dropped",
                           self.listener, self.backlog, dropped)  # fmt: skip

    def close(self) -> None:
        """Hand nothing more out."""
        self.is_closed = True
        self.wake.set()
        for timer in self._timers:
            timer.cancel()

    def forget_retries(self) -> None:
        """Leave to the group what was to be tried again here."""
        for stream in list(self._retries):
            self.forget(stream)

    # Delivered events

    def next(self) -> tuple[Stream, float, Order[Stream] | None] | None:
        """
        Return whose turn it is; None where nothing is to be done.

        That is a stream, the sequence before which its events have their turn, and where it waited with others.
        """
        while self._runnable:
            whose = self._runnable.popleft()
            if isinstance(whose, Stream):
                # One in order that is queued by itself is given its event again, and no other.
                return whose, math.inf if whose.order is None else 0, None
            whose.queued = False
            found = whose.next()
            if found is not None:
                return *found, whose
        return None

    def take(self, stream: Stream, before: float) -> Entry | None:
        """Return the next event of a stream, if its sequence is below `before`; None if none is to be delivered."""
        entry = stream.take(before)
        if entry is not None:
            self.backlog -= 1
            self.backlog_bytes -= len(entry[2])
        return entry

    def take_many(self, stream: Stream, before: float, most: int) -> list[Sequence[Any]]:
        """Return the next events of a stream as they came, those that may be handled without more ado."""
        size = stream.size
        entries = stream.take_many(before, most if size <= AHEAD else 1)
        if entries:
            stream.in_progress = len(entries)
            self.backlog -= len(entries)
            self.backlog_bytes -= size - stream.size
        return entries

    def settle(self, stream: Stream, entries: list[Sequence[Any]], handled: int, *, is_one_failed: bool) -> None:
        """Note how many of several events were handled; behind one that failed they were not begun."""
        if rest := entries[handled + is_one_failed :]:
            size = stream.size
            stream.return_unstarted(rest)
            self.backlog += len(rest)
            self.backlog_bytes += stream.size - size
        if handled:
            stream.done(entries[handled - 1], handled)
            self.handled_by[stream.key[1]] += handled

    def begin(self, stream: Stream) -> bool:
        """Take a stream in hand; return whether that may be now, and else have it wait for the one of its key."""
        stream.queued = False
        if self._at_hand.get(stream.key, stream) is not stream:
            self._blocked[stream.key] = stream
            return False
        self._at_hand[stream.key] = stream
        return True

    def end(self, stream: Stream, turn: Turn, count: int, *, is_going_on: bool) -> None:
        """Note that a turn is over in which so many events were taken; more may follow, unless one is tried again."""
        self._took(0, 0)
        if count and not stream.in_progress:
            stream.owner.after_turn(stream)
        turn.count += count
        if stream.order is not None and stream.ready and turn.count < TURN:
            self.turns[stream] = turn
        if is_going_on or not stream.in_progress:
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        """Have nothing of a stream in hand any more: it, or the one that waited for it, has its turn again."""
        self._at_hand.pop(stream.key, None)
        self.go_on(stream)
        if (blocked := self._blocked.pop(stream.key, None)) is not None:
            self.go_on(blocked)

    def done(self, stream: Stream, entry: Entry) -> bool:
        """Record that an event was handled, or needs no handling any more; return that its stream continues."""
        stream.done(entry)
        self.handled_by[stream.key[1]] += 1
        stream.owner.ack(stream)
        if stream.head > stream.position:  # so that more is here when what waits is handled
            stream.owner.fetch_more(stream)
        return True

    def put_back(self, stream: Stream) -> bool:
        """Leave the event in progress, and those after it, to the next owner; return that the stream ends here."""
        self._drop_waiting(stream)
        stream.put_back()
        stream.owner.retry(stream)
        return False

    def retry_later(self, stream: Stream, retry: Retry) -> None:
        """Give its turn to a stream after a pause, with the same event."""
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
        """Return the event of a stream that is to be tried again now, if there is one."""
        return self._retries.pop(stream, None)

    def _drop_waiting(self, stream: Stream) -> None:
        self._took(len(stream.ready), stream.size)

    def _took(self, count: int, size: int) -> None:
        self.backlog -= count
        self.backlog_bytes -= size
        if self._starving and self.backlog_bytes < MAX_BYTES // 2:
            starving, self._starving = self._starving, []
            for stream in starving:
                stream.owner.fetch_more(stream)
