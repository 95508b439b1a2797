"""Publishes stored events: in as few messages as possible, with numbers that show subscribers what they missed."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ...wire import envelope
from ...wire.envelope import Events, Head, Marker
from ...wire.sizes import RECORD_OVERHEAD, Receivers

__all__ = ["FRAME_OVERHEAD", "MAX_BYTES", "MAX_RECORDS", "Broadcast"]

logger = logging.getLogger("lightbus.publishing")

MAX_RECORDS = 256
MAX_BYTES = 1024 * 1024
"""Most events, and bytes of events, in one message: enough events to save most of the cost per message, and no more
bytes than a subscriber can decode at once without delaying its loop. For a single larger event only the number is
published: listeners fetch it from the journal when they get to it, so that it is buffered nowhere."""

FRAME_OVERHEAD = 1024
"""Bytes of a frame in addition to its record, at most: topic, names, numbers."""

FRAME_LEAST = 128
"""Bytes of a frame in addition to its record and its topic, at least."""

FIRST_HEAD = 0.5
LAST_HEAD = 30.0
"""Seconds after which the head of an idle topic is published; then the pause doubles, up to LAST_HEAD."""

MAX_HEADS = 10_000
"""Topics whose heads are published; for others, a missed last event is noticed when the next event arrives."""


class Broadcast:
    """
    Publishes stored events. Only touched from the node's loop.

    Args:
        instance: the instance id of this process.
        send: publishes a frame.
        receivers: the subscribers, and how large a message each accepts.
        counts: the publisher's counters: published, markers, too_large.

    Attributes:
        published: number of published events by (API, event).
        published_bytes: their bytes by (API, event); counted once, not for each subscriber.

    """

    def __init__(
        self, instance: str, send: Callable[[bytes], None], receivers: Receivers, counts: Counter[str]
    ) -> None:
        self.published: Counter[tuple[str, str]] = Counter()
        self.published_bytes: Counter[tuple[str, str]] = Counter()
        self._instance = instance
        self._send = send
        self._receivers = receivers
        self._counts = counts
        self._names: dict[bytes, tuple[str, str]] = {}
        self._heads: dict[bytes, tuple[int, float, float]] = {}
        """By topic: its newest sequence, when to publish that next, and the pause before that."""
        self._live_heads: dict[bytes, tuple[int, float, float]] = {}
        """The same by topic of best effort: a subscriber cannot fetch missed events, but can count them."""
        self._journal = ""
        """The journal of `_heads` and `_complete`."""
        self._complete: dict[bytes, int] = {}
        """By event: the sequence up to which everything was published."""

    def send_marker(self, topic: bytes, journal: str, head: int) -> None:
        """Publish a marker: its subscribers get all events after this sequence live."""
        self._counts["markers"] += 1
        self._send(envelope.encode_published(topic, Marker(journal, head)))

    def tick(self, now: float) -> None:
        """Publish the heads of idle topics: a subscriber may have missed the last event."""
        for journal, heads in ((self._journal, self._heads), ("", self._live_heads)):
            for topic, (sequence, at, pause) in list(heads.items()):
                if now >= at:
                    self._send(envelope.encode_published(topic, Head(journal, sequence)))
                    pause = min(2 * pause, LAST_HEAD)
                    heads[topic] = sequence, now + pause, pause

    def send_all(self, batch: dict[bytes, list[list[Any]]], journal: str) -> None:
        """Publish events by topic; `journal` is empty for events of best effort."""
        smallest = self._receivers.smallest
        limit = min(MAX_BYTES, smallest - FRAME_OVERHEAD)
        portions = [(topic, records) for topic, entries in batch.items() for records in _portions(entries, limit)]
        if journal and journal != self._journal:
            self._journal, self._heads, self._complete = journal, {}, {}
        bounds = self._bounds(portions) if journal else [(0, 0)] * len(portions)
        for (topic, records), (follows, complete) in zip(portions, bounds, strict=True):
            size = len(records[0][2])
            if journal and size > limit:  # too large for a subscriber's buffer: it fetches the event later
                message: Events | Head = Head(journal, records[0][0], follows, complete)
            elif size > smallest - len(topic) - FRAME_LEAST:
                self._note_dropped(topic, size)
                continue
            else:
                message = Events(journal, self._instance, records, follows, complete)
            self._send(envelope.encode_published(topic, message))
        at = time.monotonic() + FIRST_HEAD
        for topic, entries in batch.items():
            name = self._names.get(topic) or self._name_of(topic)
            self.note_published(*name, len(entries), sum([len(entry[2]) for entry in entries]))
            heads = self._heads if journal else self._live_heads
            if topic in heads or len(heads) < MAX_HEADS:
                heads[topic] = entries[-1][0], at, FIRST_HEAD

    def _name_of(self, topic: bytes) -> tuple[str, str]:
        """Return the API and the event of a topic, and cache them: a process has only so many topics."""
        api, event, _ = envelope.split_topic(topic)
        self._names[topic] = api, event
        return api, event

    def note_published(self, api: str, event: str, count: int, size: int) -> None:
        """Count events that were published, and their bytes."""
        self._counts["published"] += count
        self.published[api, event] += count
        self.published_bytes[api, event] += size

    def _note_dropped(self, topic: bytes, size: int) -> None:
        """Count an event of best effort that is too large for a subscriber: it would close the connection."""
        self._counts["too_large"] += 1
        if (count := self._counts["too_large"]) in (1, 10, 100) or count % 1000 == 0:
            logger.warning(
                "%d events of best effort were dropped so far, since a subscriber takes no messages over %d bytes; the "
                "last one, of %s, takes %d. Raise network.max_message_size there, or send less.",
                count, self._receivers.smallest, ".".join(envelope.split_topic(topic)[:2]), size,
            )  # fmt: skip

    def _bounds(self, portions: list[tuple[bytes, list[Any]]]) -> list[tuple[int, int]]:
        """
        Sort messages by their first events; return for each the sequences up to which its event was completely
        published before, and is with this message.

        So a subscriber to all partitions can order their events, and notices a missing message even if the next one is
        of another partition.
        """
        portions.sort(key=lambda portion: portion[1][0][0])
        ahead: dict[bytes, int] = {}
        """By event: the first sequence of the next message; all sequences before it are published by then."""
        newest: dict[bytes, int] = {}
        bounds: list[tuple[int, int]] = []
        for topic, records in portions:
            event = topic[:-3]
            newest[event] = max(records[-1][0], newest.get(event, 0))
        for topic, records in reversed(portions):
            event = topic[:-3]
            bounds.append((0, ahead.get(event, newest[event] + 1) - 1))
            ahead[event] = records[0][0]
        bounds.reverse()
        for number, ((topic, _), (_, complete)) in enumerate(zip(portions, bounds, strict=True)):
            event = topic[:-3]
            bounds[number] = self._complete.get(event, 0), complete
            self._complete[event] = complete
        return bounds


def _portions(entries: list[list[Any]], limit: int) -> list[list[Any]]:
    """Split a topic's events into messages with neither too many events nor too many bytes."""
    count = len(entries)
    if count <= MAX_RECORDS and count * RECORD_OVERHEAD + sum([len(entry[2]) for entry in entries]) <= limit:
        return [entries]
    portions: list[list[Any]] = [[]]
    size = 0
    for entry in entries:
        taken = len(entry[2]) + RECORD_OVERHEAD
        if portions[-1] and (len(portions[-1]) >= MAX_RECORDS or size + taken > limit):
            portions.append([])
            size = 0
        portions[-1].append(entry)
        size += taken
    return portions
