"""One topic of one journal, as a consumer follows it: what to deliver, fetch and acknowledge next.

A stream never delivers an event before its predecessor in the topic, and none twice. Events that do not fit, or did not
arrive, stay in the journal and are fetched later (`wanted`): a slow consumer costs space on the publisher's disk, not
memory.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from .ordering import Order, Watermark

__all__ = ["HIGH", "LOW", "UNCONFIRMED", "AckPosition", "Entry", "Stream", "entry_of"]

HIGH = 1024
"""Events of a stream that wait in memory; further ones wait in the journal."""

LOW = 256
"""Waiting events of a stream below which more are fetched."""

UNCONFIRMED = 256
"""
Events that may be handled before the publisher has confirmed their acknowledgement. When a consumer is lost, this many
events after its cursor are delivered one at a time, since any of them may have caused the loss.
"""


MAX_FAILURES = 3
"""Failed attempts to fetch missing events, after which other streams no longer wait for them."""


class Entry(NamedTuple):
    """An event as it is in a frame: its sequence, that of its predecessor in the topic, and its record."""

    sequence: int
    previous: int
    record: bytes


class AckPosition(NamedTuple):
    """An acknowledgement: events up to `sequence` are handled, and `events` is their total number in this stream."""

    sequence: int
    events: int


entry_of: Callable[[Sequence[Any]], Entry] = partial(tuple.__new__, Entry)
"""Makes an Entry of a row, in half the time that the class takes."""


class Stream:
    """
    One topic of one journal. Only touched from the loop it belongs to.

    Args:
        key: identifies the topic and journal; not inspected here.
        owner: the object that owns it; not inspected either.
        cursor: all events up to this sequence were handled before.
        head: the newest known sequence.
        possibly_delivered: another member may have started events up to this sequence.
        order: the order that merges it with the other streams of its journal; None if it is not merged.
        watermark: for a merged stream, the sequence up to which all events of its name are known.

    """

    __slots__ = (
        "_acked",
        "_done",
        "_held_back",
        "_possible_remaining",
        "_requested_after",
        "confirmed",
        "failures",
        "handled",
        "head",
        "in_progress",
        "key",
        "order",
        "owner",
        "position",
        "possibly_delivered",
        "queued",
        "ready",
        "size",
        "trimmed",
        "watermark",
    )  # fmt: skip

    def __init__(
        self,
        key: Any,
        owner: Any = None,
        *,
        cursor: int,
        head: int = 0,
        possibly_delivered: int = 0,
        order: Order[Stream] | None = None,
        watermark: Watermark | None = None,
    ) -> None:
        self.key = key
        self.owner = owner
        self.position = cursor
        """All events up to this sequence were received: they are delivered or ready."""
        self.handled = cursor
        """All events up to this sequence were handled."""
        self.head = max(head, cursor)
        self.possibly_delivered = possibly_delivered
        self.ready: deque[Sequence[Any]] = deque()
        """The events to deliver, as received: `[sequence, previous, record]` each."""
        self.size = 0
        """Bytes of the ready records."""
        self.in_progress = 0
        """Events that are being handled, or wait for a retry; while there are any, no other is started."""
        self.queued = False
        """Whether it waits for its turn; set by the queue that gives turns."""
        self.order = order
        """None if it is not merged: from the beginning, or since `leave`."""
        self.watermark = watermark
        self.failures = 0
        """Failed requests for more events in a row."""
        self.trimmed = 0
        """Events that were deleted before this consumer got them."""
        self._requested_after: int | None = None
        """The sequence after which more events were requested; None if no answer is due."""
        self._held_back: deque[Sequence[Any]] = deque()
        self.confirmed = 0
        """How many handled events the publisher has confirmed as stored on disk."""
        self._done = 0
        self._acked = AckPosition(cursor, 0)
        self._possible_remaining = UNCONFIRMED

    # Inputs

    def live(self, entries: Sequence[Any]) -> int:
        """Record published events, `[sequence, previous, record]` each, in order; return how many were accepted."""
        if self._requested_after is not None:
            self._hold_back(entries)
            return 0
        position, ready = self.position, self.ready
        if len(ready) + len(entries) > HIGH:
            self.head = max(self.head, entries[-1][0])
            return 0
        taken = size = 0
        for entry in entries:
            sequence, previous, record = entry
            if sequence <= position:
                continue
            if previous > position:  # a gap: the events after it stay in the journal, and are fetched in order
                self.head = max(self.head, entries[-1][0])
                break
            ready.append(entry)
            position = sequence
            taken += 1
            size += len(record)
        self.position = position
        self.size += size
        if position > self.head:
            self.head = position
        return taken

    def note_head(self, head: int) -> None:
        """Record the sequence of the newest event."""
        if head > self.head:
            self.head = head

    def page(self, entries: Sequence[Any], through: int, *, trimmed: int = 0) -> int:
        """
        Record the requested events; return how many were accepted.

        The page continues the stream only if it was requested from our position or before: losing a partition drops the
        waiting events and sets the position back, and then a page requested earlier would leave a gap. Live events that
        arrived since the request were held back, and follow the page, so that each event comes in order and once.
        `through` is the last sequence that the publisher has examined. It may be after the last entry if the rest is
        not for this group; the cursor moves there only when no earlier event waits or is in progress.
        """
        requested_after, self._requested_after = self._requested_after, None
        held_back, self._held_back = self._held_back, deque()
        if requested_after is None or requested_after > self.position:
            return 0  # earlier events were dropped since: they have to be fetched first
        before, position_before = len(self.ready), self.position
        for entry in entries:
            if entry[0] > self.position:
                self.ready.append(entry)
                self.size += len(entry[2])
                self.position = entry[0]
        self.position = max(self.position, through)
        self.trimmed += trimmed
        self.head = max(self.head, self.position)
        if not self.ready and not self.in_progress:
            self.handled = max(self.handled, self.position)  # the skipped events are not for this group
        if held_back:
            self.live(held_back)
        self.failures = 0 if self.position > position_before else self.failures + 1
        return len(self.ready) - before

    def request_failed(self) -> None:
        """Record that the request will not be answered."""
        self.failures += 1
        self._requested_after = None
        self._held_back.clear()

    # Delivery

    def wanted(self) -> int | None:
        """Return the sequence after which to fetch more, and mark it as requested; None if nothing is due."""
        if self._requested_after is not None or self.head <= self.position or len(self.ready) >= LOW:
            return None
        self._requested_after = self.position
        return self._requested_after

    @property
    def can_deliver(self) -> bool:
        """Whether an event may be delivered now."""
        return bool(self.ready) and not self.in_progress and self._done - self.confirmed < UNCONFIRMED

    @property
    def awaits_events(self) -> bool:
        """Whether it has more events and none has arrived: other streams wait for it, up to a limit."""
        return self.head > self.position and not self.ready and not self.in_progress and self.failures < MAX_FAILURES

    def take(self, before: float = math.inf) -> Entry | None:
        """Return the next event, if its sequence is below `before`; None if there is none to deliver now."""
        ready = self.ready
        if not ready or self.in_progress or self._done - self.confirmed >= UNCONFIRMED:  # can_deliver, written out
            return None
        if ready[0][0] >= before:
            return None
        self.in_progress = 1
        entry = entry_of(ready.popleft())
        self.size -= len(entry[2])
        return entry

    def take_many(self, before: float, most: int, already: int = 0) -> list[Sequence[Any]]:
        """
        Hand out together the next events before a sequence. The caller counts them in `in_progress`.

        They are in the received form: `[sequence, previous, record]` each.

        Args:
            before: the sequence.
            most: the most events to return. An event whose start must be recorded first is delivered alone.
            already: how many events were already taken for the same delivery.

        """
        ready = self.ready
        count = min(most, len(ready), UNCONFIRMED - self._done + self.confirmed - already)
        if count <= 0 or self.in_progress or self.is_possibly_delivered(ready[0]):
            return []
        if ready[count - 1][0] >= before:
            count = next(number for number, entry in enumerate(ready) if entry[0] >= before)
        if count == len(ready):
            taken = list(ready)
            ready.clear()
            self.size = 0
        else:
            taken = [ready.popleft() for _ in range(count)]
            self.size -= sum([len(entry[2]) for entry in taken])
        return taken

    def return_unstarted(self, entries: Sequence[Sequence[Any]]) -> None:
        """Put back the last of the events that were delivered together: they were not started."""
        self.ready.extendleft(reversed(entries))
        self.size += sum([len(entry[2]) for entry in entries])
        self.in_progress -= len(entries)

    @property
    def is_next_possibly_delivered(self) -> bool:
        """Whether the start of the next event must be recorded first."""
        return bool(self.ready) and self.is_possibly_delivered(self.ready[0])

    def is_possibly_delivered(self, entry: Sequence[Any]) -> bool:
        """Return whether another member may have started this event: then its start is recorded first."""
        return entry[0] <= self.possibly_delivered and self._possible_remaining > 0

    def done(self, entry: Sequence[Any], count: int = 1) -> None:
        """Record that an event was handled, the last of `count` that were delivered together."""
        self.in_progress -= count
        self._done += count
        sequence = entry[0]
        if sequence <= self.possibly_delivered:
            self._possible_remaining -= count
        if not self.ready and not self.in_progress and self.position > sequence:
            sequence = self.position  # the skipped events after it are not for this group
        if sequence > self.handled:
            self.handled = sequence

    def skip(self, sequence: int) -> int:
        """Record that another member handled all events up to here; return how many waiting events that removes."""
        before = len(self.ready)
        while self.ready and self.ready[0][0] <= sequence:
            self.size -= len(self.ready.popleft()[2])
        self.position = max(self.position, sequence)
        self.head = max(self.head, sequence)
        self.handled = max(self.handled, sequence)
        return before - len(self.ready)

    def drop(self) -> None:
        """Drop the waiting events: they are in the journal. Events in progress are not affected."""
        self.ready.clear()
        self.size = 0
        self.position = self.handled  # so that `done` does not count dropped events as handled

    def leave(self) -> Order[Stream] | None:
        """Drop the waiting events, and leave the order that it is merged in; return that order."""
        self.drop()
        order, self.order = self.order, None
        return order

    def put_back(self) -> None:
        """Record that the events in progress were not handled: no later one may be delivered before them."""
        self.in_progress = 0
        self.drop()

    @property
    def is_ack_due(self) -> bool:
        """Whether more was handled than was acknowledged."""
        return self.handled > self._acked.sequence

    @property
    def unacknowledged(self) -> int:
        """How many events were handled since the last acknowledgement."""
        return self._done - self._acked.events

    def next_ack(self) -> AckPosition | None:
        """Return the next acknowledgement, and mark it as sent; None if there is nothing to acknowledge."""
        if not self.is_ack_due:
            return None
        self._acked = AckPosition(self.handled, self._done)
        return self._acked

    def ack_confirmed(self, acked: AckPosition) -> None:
        """Record that the publisher has this acknowledgement on disk."""
        if acked.events > self.confirmed:
            self.confirmed = acked.events

    def ack_failed(self) -> None:
        """Record that the publisher did not answer: everything is acknowledged again."""
        self._acked = AckPosition(-1, self.confirmed)

    def _hold_back(self, entries: Sequence[Any]) -> None:
        # They may directly follow the requested page. Too many of them are dropped, and fetched as well.
        self.head = max(self.head, entries[-1][0])
        if len(self._held_back) + len(entries) > HIGH:
            self._held_back.clear()
            return
        self._held_back.extend(entries)


class LiveStream(Stream):
    """A topic of best effort, without a journal: events that do not arrive, or do not fit, are lost and counted."""

    __slots__ = ("missed",)

    def __init__(self, key: Any, owner: Any = None, *, position: int = 0) -> None:
        super().__init__(key, owner, cursor=position)
        self.missed = 0
        """Events that did not arrive, as later sequences show: each publisher numbers the events of a topic."""

    def live(self, entries: Sequence[Any]) -> int:
        """Record published events; return how many were accepted: all, as the caller has checked that they fit."""
        position, size = self.position, self.size
        for sequence, previous, record in entries:
            if previous > position and position:
                self.missed += previous - position
            if sequence > position:
                position = sequence
            size += len(record)
        self.ready.extend(entries)
        self.position, self.size = position, size
        return len(entries)

    def refused(self, entries: Sequence[Any]) -> None:
        """Record published events that do not fit: they are not counted as missed."""
        for sequence, previous, _ in entries:
            if self.position and previous > self.position:
                self.missed += previous - self.position
            self.position = max(self.position, sequence)

    def note_head(self, head: int) -> None:
        if self.position and head > self.position:
            self.missed += head - self.position
        self.head = self.position = max(self.position, head)

    def done(self, entry: Sequence[Any], count: int = 1) -> None:
        super().done(entry, count)
        self.confirmed = self._done  # best effort: nothing is acknowledged or confirmed

    def wanted(self) -> int | None:
        return None

    @property
    def unacknowledged(self) -> int:
        return 0

    def next_ack(self) -> AckPosition | None:
        return None
