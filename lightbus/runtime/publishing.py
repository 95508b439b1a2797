"""The way of an event out: fire -> validate -> (journal) -> PUB, and the hand-off for processes that do not publish.

There is no journal yet: an event is numbered, and reaches whoever listens at the moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..core.partitions import partition_of
from ..exceptions import DeformError, EventNotFound, LightbusException, PayloadTooLarge, PeerRefused, ProtocolError
from ..message import EventMessage
from ..service.api import ApiRegistry, Event
from ..wire import codec, envelope
from ..wire.envelope import MARKER_PREFIX, PARTITIONS, Accepted, Error, Events, Fire, Marker, Record
from .context import Identity

__all__ = ["Publisher", "key_of"]

logger = logging.getLogger("lightbus.publishing")

MAX_RECORDS = 256
MAX_BYTES = 1024 * 1024
"""Events that are coalesced into one message: as many as saves most of the cost per message, and no more bytes than
a subscriber can take in at once without holding up everything else."""

FRAME_OVERHEAD = 1024
"""Bytes of a frame besides its record: topic, names, numbers."""

RECORD_OVERHEAD = 32
"""Bytes of a record's entry besides the record: two numbers, and what msgpack notes of their kinds and lengths."""

TURN_AFTER = 16
"""Events without a key that go to one partition before the next has its turn, within one tick of the loop."""


def key_of(event: Event | None, kwargs: dict[str, Any]) -> str | None:
    """Return the key of an event with these arguments; None where it has none."""
    if event is None or event.key is None:
        return None
    value = kwargs.get(event.key)
    return None if value is None else str(value)


class Publisher:
    """
    Publishes the events of the APIs that this process advertises.

    `append` may be called from any thread: the lock makes numbering and queueing one step, so that the numbers of each
    partition leave in order. Sending happens on the node's loop only.

    Args:
        identity: who we are.
        apis: whose events may be fired.
        send: publishes a frame.
        max_message_size: bytes that a frame may have.

    """

    def __init__(
        self, identity: Identity, apis: ApiRegistry, send: Callable[[bytes], None], *, max_message_size: int
    ) -> None:
        self.identity = identity
        self.max_message_size = max_message_size
        self.journal = identity.instance
        self.head = 0
        """The sequence of the newest event."""
        self.counts: Counter[str] = Counter()
        """published, handed_off (to us), refused, markers."""
        self._apis = apis
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pending: dict[bytes, list[list[Any]]] = {}
        self._count = 0
        self._flush_is_due = False
        self._last: dict[bytes, int] = {}
        self._turn = int.from_bytes(os.urandom(1), "big")
        self._topics: dict[tuple[str, str], list[bytes]] = {}
        self._published: Counter[bytes] = Counter()

    def append(self, api: str, event: str, record: bytes, key: str | None) -> int:
        """Number an event and queue it for publishing; return its sequence. From any thread."""
        topics = self._topics.get((api, event)) or self._make_topics(api, event)
        with self._lock:
            self.head = sequence = self.head + 1
            if key is None:
                topic = topics[(self._turn + self._count // TURN_AFTER) % PARTITIONS]
            else:
                topic = topics[partition_of(key, PARTITIONS)]
            self._count += 1
            entry = [sequence, self._last.get(topic, 0), record]
            self._last[topic] = sequence
            if topic in self._pending:
                self._pending[topic].append(entry)
            else:
                self._pending[topic] = [entry]
            if self._flush_is_due:
                return sequence
            self._flush_is_due = True
        self._loop.call_soon_threadsafe(self.flush)
        return sequence

    def publish(self, message: EventMessage, event: Event) -> None:
        """
        Publish an event of this process, and note in it where it is to be found. From any thread.

        Raises DeformError where an argument cannot be put on the wire, PayloadTooLarge where all are too much for it.
        """
        record = record_of(message)
        if len(record) + FRAME_OVERHEAD > self.max_message_size:
            raise self._too_large(message.canonical_name, record)
        sequence = self.append(message.api_name, message.event_name, record, key_of(event, message.kwargs))
        message.native_id = self.native_id(sequence)
        message.publisher = self.journal

    @property
    def published(self) -> Counter[tuple[str, str]]:
        """How many were published per (API, event)."""
        return Counter(
            {key: sum(self._published[topic] for topic in topics) for key, topics in self._topics.copy().items()}
        )

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return self._count

    def flush(self) -> int:
        """
        Publish what is queued, and return the sequence of the last of it. Only on the node's loop.

        The events of one topic share messages.
        """
        with self._lock:
            batch, self._pending = self._pending, {}
            count, self._count = self._count, 0
            self._flush_is_due = False
            self._turn += 1 + count // TURN_AFTER
            head = self.head
        limit = min(MAX_BYTES, self.max_message_size - FRAME_OVERHEAD)
        for topic, entries in batch.items():
            self._published[topic] += len(entries)
            for records in _portions(entries, limit):
                message = Events(self.journal, self.identity.instance, records)
                self._send(envelope.encode_published(topic, message))
        self.counts["published"] += count
        return head

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        """
        Take in a subscription. One to a marker is answered with it.

        libzmq passes subscriptions on in the order they were made, so when the marker's arrives all before it are in
        force. What is queued goes out first: those events are older than the marker, and older ones are not live.
        """
        if subscribed and topic.startswith(MARKER_PREFIX):
            head = self.flush()  # not `self.head`: another thread may have counted on, and its event comes later
            self.counts["markers"] += 1
            self._send(envelope.encode_published(topic, Marker(self.journal, head)))

    def hand_off(self, fire: Fire) -> Accepted | Error:
        """Publish an event for a process that cannot; return the answer for it."""
        if fire.target != self.identity.instance:
            text = f"the event was meant for the instance {fire.target}, and this is {self.identity}."
            return Error(PeerRefused.code, text, False, {"elsewhere": True})
        try:
            event = self._apis.get(fire.api).get_event(fire.event)
            kwargs, data = _completed(event, fire.record)
            # A subscriber would drop us for a message over the limit, and this one grows by its topic and numbers.
            if len(data) + FRAME_OVERHEAD > self.max_message_size:
                raise self._too_large(f"{fire.api}.{fire.event}", data)
        except (LightbusException, EventNotFound, ProtocolError) as error:
            self.counts["refused"] += 1
            return Error(error.code, str(error), False, {})
        key = fire.key if fire.key is not None else key_of(event, kwargs)
        sequence = self.append(fire.api, fire.event, data, key)
        self.counts["handed_off"] += 1
        return Accepted(self.native_id(sequence), self.identity.instance)

    def native_id(self, sequence: int) -> str:
        """Return where an event is to be found: `"<journal>-<sequence>"`."""
        return f"{self.journal}-{sequence}"

    def _too_large(self, what: str, record: bytes) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The arguments of {what} take {len(record)} bytes; a message may have {self.max_message_size}. "
            "Send less, or raise network.max_message_size on both sides."
        )

    def _make_topics(self, api: str, event: str) -> list[bytes]:
        topics = [envelope.event_topic(api, event, partition) for partition in range(PARTITIONS)]
        self._topics[api, event] = topics
        return topics


def _completed(event: Event, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the arguments and the record of an event with what its sender, who may not know the Api, left out."""
    record = envelope.decode_record(data)
    kwargs = event.signature.fill_defaults(record.kwargs)
    event.signature.validate(kwargs)
    if kwargs is record.kwargs and record.version == event.version:
        return kwargs, data
    return kwargs, envelope.encode_record(record._replace(kwargs=kwargs, version=event.version))


def _portions(entries: list[list[Any]], limit: int) -> list[list[Any]]:
    """Cut a topic's events into messages that are neither too many nor too large."""
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


class EventIds:
    """Gives each fired event an id that is unique on the bus: the instance, and a number. From any thread."""

    def __init__(self, instance: str) -> None:
        self._prefix = f"{instance}-"
        self._numbers = iter(range(1, 2**63))

    def next(self) -> str:
        """Return a new id. `next` on a range iterator is one step under the interpreter lock."""
        return f"{self._prefix}{next(self._numbers)}"


def record_of(message: EventMessage) -> bytes:
    """Return an event as it is kept and sent. Raises DeformError where an argument cannot be put on the wire."""
    # The fields of a Record, without making one.
    fields = [message.id, message.version, message.published_at, message.kwargs]
    try:
        return codec.encode(fields, names=Record._fields)
    except DeformError as error:
        raise DeformError(f"The arguments of {message.canonical_name} cannot be sent: {error}") from None
