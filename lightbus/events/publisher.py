"""The way of an event out: fire -> validate -> journal -> PUB, and the hand-off for processes that do not publish.

An event is numbered and stored first, and published then: whoever misses it live finds it in the journal. Events of
best effort are numbered and published only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol, TypeAlias

from ..adapters.sqlite.journal import Journal, NewEvent, Stored, Topic
from ..adapters.sqlite.journal_file import PATIENCE, is_locked, is_removed
from ..core.partitions import partition_of
from ..exceptions import (
    DeformError,
    EventNotFound,
    JournalError,
    LightbusException,
    LightbusTimeout,
    PayloadTooLarge,
    PeerRefused,
    ProtocolError,
)
from ..membership.context import Identity
from ..message import EventMessage
from ..recurring import RecurringLog
from ..service.api import ApiRegistry, Event
from ..wire import codec, envelope
from ..wire.envelope import PARTITIONS, Accepted, Error, Events, Fire, Head, Marker, Message, Record
from ..wire.sizes import RECORD_OVERHEAD, Receivers
from .ack_waiters import OnHandled
from .together import Together

__all__ = ["LATE_TIMEOUT", "Publisher", "Row", "Subscriptions", "WhenHandled", "key_of", "native_id"]

logger = logging.getLogger("lightbus.publishing")

MAX_RECORDS = 256
MAX_BYTES = 1024 * 1024
"""Events that are coalesced into one message: as many as saves most of the cost per message, and no more bytes than
a subscriber can take in at once without holding up everything else. Of an event that is larger by itself only the
number is published: who listens fetches it from the journal when it comes to it, and it waits in nobody's memory."""

FRAME_OVERHEAD = 1024
"""Bytes of a frame besides its record: topic, names, numbers."""

FRAME_LEAST = 128
"""The same without the topic."""

TURN_AFTER = 16
"""Events without a key that go to one partition before the next has its turn, within one tick of the loop."""

TOGETHER = 64
"""The same of events that are fired together: as many as a listener handles in one turn."""

FIRST_HEAD = 0.5
LAST_HEAD = 30.0
"""Seconds after which an idle topic says which event is its newest; then again after twice the time, up to the last."""

AT_ONCE = 16
"""Events in a row that one task has stored one by one, before the rest of the loop has its turn."""

LATE_TIMEOUT = 4 * PATIENCE
"""Seconds after which a thread that fires gives up, where what it waits for is not answered at all."""

MAX_HEADS = 10_000
"""Topics that do so: the others' newest events are found when the next one comes."""

_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})
"""Types whose text is the same before and behind the wire."""

Place: TypeAlias = tuple[Topic, int]
"""Where an event is in our own journal."""

Row: TypeAlias = tuple[bytes, str | None, float, str]
"""An event that is fired together with others: record, key, when it was fired, and its id where it was handed off."""

WhenHandled = Callable[[Topic, int, float, OnHandled], None]
"""Calls back once every group that is owed an event of our own journal has handled it; gives up after some seconds."""

Subscriptions = Callable[[bytes, bool], None]
"""Is told of every subscription that begins or ends, by its topic."""


def key_of(event: Event | None, kwargs: dict[str, Any]) -> str | None:
    """
    Return the key of an event with these arguments, which can be put on the wire; None where it has none.

    It is the text of what is on the wire, so that it is the same for who fires an Enum, and for the publisher that
    was sent its value.
    """
    if event is None or event.key is None:
        return None
    value = kwargs.get(event.key)
    if type(value) not in _AS_THEY_ARE:
        value = codec.decode(codec.encode(value))
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, list):
        # Sorted, since a set comes out in another order in each process. Two keys that thereby are one do no harm.
        value = sorted(map(str, value))
    return None if value is None else str(value)


def native_id(journal: str, sequence: int) -> str:
    """Return where an event is to be found: `"<journal>-<sequence>"`; empty where no journal holds it."""
    return f"{journal}-{sequence}" if journal else ""


class OwnJournal(Protocol):
    """Where the journal comes from that this process appends to."""

    def own(self) -> Journal:
        """Return it, opened at first use. Raises JournalError."""


_Waiter: TypeAlias = "asyncio.Future[Stored] | Callable[[Stored | JournalError], None]"


_new = tuple.__new__  # makes a NamedTuple of its fields in half the time


class _Batch:
    """What is fired within one tick of the loop: stored by one commit. Each event has somebody who waits for that."""

    __slots__ = ("events", "topics", "waiters")

    def __init__(self) -> None:
        self.topics: list[bytes] = []
        self.events: list[NewEvent] = []
        self.waiters: list[_Waiter] = []


class Publisher:
    """
    Publishes the events of the APIs that this process advertises.

    `publish` may be called from any thread: the lock makes storing and queueing one step, so that the sequences of
    each topic leave in order. Sending happens on the node's loop only.

    Args:
        identity: who we are.
        apis: whose events may be fired.
        send: publishes a frame.
        journals: has the journal of this process.
        receivers: who is subscribed, and how large a message it takes.
        when_handled: calls back once all groups have handled an event of ours.
        on_subscription: is told of every subscription that asks for no marker.
        max_message_size: bytes that a frame may have.

    """

    def __init__(
        self,
        identity: Identity,
        apis: ApiRegistry,
        send: Callable[[bytes], None],
        journals: OwnJournal,
        receivers: Receivers,
        *,
        when_handled: WhenHandled,
        on_subscription: Subscriptions,
        max_message_size: int,
    ) -> None:
        self.identity = identity
        self.max_message_size = max_message_size
        self.counts: Counter[str] = Counter()
        """published, stored, handed_off (to us), repeated, refused, markers, journal_errors, too_large."""
        self._failures = RecurringLog(logger)
        self.published: Counter[tuple[str, str]] = Counter()
        """Per (API, event): how many were published."""
        self.published_bytes: Counter[tuple[str, str]] = Counter()
        """Per (API, event): how many bytes these took, each counted once and not for each subscriber."""
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.when_handled = when_handled
        self._on_subscription = on_subscription
        self._apis = apis
        self._send = send
        self._journals = journals
        self._receivers = receivers
        self._lock = threading.Lock()
        self._pending: dict[bytes, list[list[Any]]] = {}
        self._pending_live: dict[bytes, list[list[Any]]] = {}
        self._count = 0
        self._flush_is_due = False
        self._batch = _Batch()
        self._stores_at_once = True
        """Whether events were fired one after another of late: then there is nothing to gain from waiting for more."""
        self._run: tuple[object, int] = (None, 0)
        """Who had events stored at once within this tick, and how many."""
        self._live_numbers: dict[bytes, int] = {}
        self._turn = int.from_bytes(os.urandom(1), "big")
        self._topics: dict[tuple[str, str], list[tuple[bytes, Topic]]] = {}
        self._heads: dict[bytes, tuple[int, float, float]] = {}
        """Per topic its newest sequence, when to say so next, and the pause before that."""
        self._complete_of = ""
        self._complete: dict[bytes, int] = {}
        """Per event up to which sequence everything was published. Only touched from the node's loop."""
        self._journal: Journal | None = None
        self._late: _Batch | None = None
        """What a thread is storing, since another program had the journal locked. What is fired meanwhile waits."""

    # In: from this process

    def publish(self, message: EventMessage, event: Event) -> Place | None:
        """
        Store an event of this process and have it published; note in it where it is to be found. From any thread.

        Return where it is; None for one of best effort.

        Raises DeformError where an argument cannot be put on the wire, PayloadTooLarge where all are too much for it,
        JournalError where it cannot be stored.
        """
        begun = self._begin(message, event)
        if begun is None:
            return None
        journal, name, stored = begun
        if isinstance(stored, Future):
            try:
                stored = stored.result(LATE_TIMEOUT)
            except TimeoutError:
                raise JournalError(f"The journal {journal.path} did not take the event: its worker stops.") from None
        return self._published(message, journal, name, stored)

    async def _publish_elsewhere(self, message: EventMessage, event: Event) -> Place | None:
        """Do the same on another loop than the node's."""
        begun = self._begin(message, event)
        if begun is None:
            return None
        journal, name, stored = begun
        if isinstance(stored, Future):
            stored = await asyncio.wait_for(asyncio.wrap_future(stored), LATE_TIMEOUT)
        return self._published(message, journal, name, stored)

    def _begin(self, message: EventMessage, event: Event) -> tuple[Journal, Topic, Stored | Future[Stored]] | None:
        """Store an event, or have it stored as soon as the journal lets it; None for one of best effort."""
        record = self.record(message)
        key = key_of(event, message.kwargs)
        if event.delivery == "best_effort":
            self._append_live(message.api_name, message.event_name, record, key)
            message.publisher = self.identity.instance
            return None
        with self._lock:
            journal = self._own_journal()
            topic, name = self._topic(message.api_name, message.event_name, key)
            new = NewEvent(name, record, message.published_at)
            stored: Stored | Future[Stored] | None = self._store_now(journal, topic, new)
            if stored is None:  # behind what waits already
                stored = Future()
                self._add(topic, new, partial(_settle, stored))
                self._flush_soon()
        return journal, name, stored

    def _published(self, message: EventMessage, journal: Journal, name: Topic, stored: Stored) -> Place:
        message.native_id = journal.id, stored.sequence
        message.publisher = self.identity.instance
        return name, stored.sequence

    def _store_now(self, journal: Journal, topic: bytes, event: NewEvent) -> Stored | None:
        """Store an event; None where it has to wait for another program. With the lock held, from any thread."""
        if self._late is not None and not self._is_on_loop():
            return None
        try:
            [stored] = journal.append([event])
        except JournalError as error:
            if self._is_on_loop() or not (is_locked(error) or is_removed(error)):
                raise
            return None
        self.counts["stored"] += 1
        self._queue(topic, stored, event.record)
        return stored

    async def publish_async(self, message: EventMessage, event: Event) -> Place | None:
        """
        Do the same on the node's loop, where all that is fired within one tick shares one commit.

        A task that fires one event after another does not wait for company that never comes: its events are stored at
        once, each by its own commit. Not where a commit waits for the disk (`durability: power`).
        """
        if event.delivery == "best_effort" or not self._is_on_loop():
            return await self._publish_elsewhere(message, event)
        record = self.record(message)
        with self._lock:
            key = None if event.key is None else key_of(event, message.kwargs)
            topic, name = self._topic(message.api_name, message.event_name, key)
            new = _new(NewEvent, (name, record, message.published_at, ""))
            stored: Stored | asyncio.Future[Stored] | None = None
            if self._stores_at_once and self._may_store_at_once(asyncio.current_task(self.loop)):
                stored = self._store_at_once(topic, new)
            if stored is None:
                stored = self.loop.create_future()
                self._enqueue(topic, new, stored)
        if isinstance(stored, asyncio.Future):
            stored = await stored
        message.native_id = self.journal_id, stored[0]
        message.publisher = self.identity.instance
        return name, stored[0]

    def store_together(self, api: str, event: str, rows: Sequence[Row]) -> tuple[list[Topic], Future[list[Stored]]]:
        """
        Store events by one commit, all or none, and have them published. From any thread.

        Return the topic of each, and what tells where they are: mostly done already, unless another program has the
        journal locked. Raises JournalError.
        """
        together: Together[Stored] = Together(len(rows))
        with self._lock:
            journal = self._own_journal()
            topics = self._spread(api, event, rows)
            new = [NewEvent(name, record, at, id) for (_, name), (record, _, at, id) in zip(topics, rows, strict=True)]
            batch = self._batch
            if self._late is None and not batch.events:  # nothing waits, of which these would have to be behind
                batch = _Batch()
                self._add_all(batch, topics, new, together)
                try:
                    for stored in self._stored(batch, journal.append(new)):
                        together(stored)
                except JournalError as error:
                    if not (is_locked(error) or is_removed(error)):
                        self._failed(batch, error)
                        raise
                    self._add_all(self._batch, topics, new, together)
            else:
                self._add_all(batch, topics, new, together)
            self._count += len(new) - 1
            self._flush_soon()
        return [name for _, name in topics], together.future

    def publish_live(self, api: str, event: str, rows: Sequence[Row]) -> None:
        """Publish events of best effort. From any thread."""
        with self._lock:
            for (topic, _), (record, *_) in zip(self._spread(api, event, rows), rows, strict=True):
                self._queue_live(topic, record)
            self._count += len(rows) - 1
            self._flush_soon()

    def handled_by_all(self, place: Place, seconds: float) -> Future[None]:
        """
        Return what is done once every group that is owed an event of ours has handled it. From any thread.

        It is given up after so many seconds: then nothing comes of it. It may raise LightbusTimeout before.
        """
        handled: Future[None] = Future()

        def done(error: LightbusTimeout | None) -> None:
            if not handled.set_running_or_notify_cancel():
                return  # whoever fired it does not wait any more
            if error is None:
                handled.set_result(None)
            else:
                handled.set_exception(error)

        self.loop.call_soon_threadsafe(self.when_handled, *place, seconds, done)
        return handled

    def hand_off(self, fire: Fire, reply: Callable[[Message], None]) -> None:
        """Publish an event for a process that cannot; answer once it is stored (or handled, if it asks for that)."""
        try:
            event, kwargs, data, id = self.received(fire.target, fire.api, fire.event, fire.record)
        except (LightbusException, EventNotFound, ProtocolError) as error:
            self.refuse(error, reply)
            return
        key = fire.key if fire.key is not None else key_of(event, kwargs)
        self.counts["handed_off"] += 1
        if event.delivery == "best_effort":
            self._append_live(fire.api, fire.event, data, key)
            reply(Accepted("", self.identity.instance))
            return
        with self._lock:
            topic, name = self._topic(fire.api, fire.event, key)
            new, answer = NewEvent(name, data, time.time(), id), partial(self._answer, fire, name, reply)
            outcome: Stored | JournalError | None = None
            if self._stores_at_once and self._may_store_at_once(fire):
                try:
                    outcome = self._store_at_once(topic, new)
                except JournalError as error:
                    outcome = error
            if outcome is None:
                self._enqueue(topic, new, answer)
                return
        answer(outcome)

    def refuse(self, error: LightbusException, reply: Callable[[Message], None]) -> None:
        """Answer that an event cannot be published that was handed off."""
        self.counts["refused"] += 1
        details = {"elsewhere": True} if isinstance(error, PeerRefused) else {}
        reply(Error(error.code, str(error), False, details))

    def received(self, target: str, api: str, name: str, record: bytes) -> tuple[Event, dict[str, Any], bytes, str]:
        """
        Return the event that was handed off, its arguments, its record and its id.

        Raises PeerRefused, EventNotFound, InvalidArguments, PayloadTooLarge, ProtocolError.
        """
        if target != self.identity.instance:
            raise PeerRefused(f"the event was meant for the instance {target}, and this is {self.identity}.")
        event = self._apis.get(api).get_event(name)
        kwargs, data, id = _completed(event, record)
        # A subscriber would drop us for a message over the limit, and this one grows by its topic and numbers.
        if len(data) + FRAME_OVERHEAD > self.max_message_size:
            raise self._too_large(f"{api}.{name}", data)
        return event, kwargs, data, id

    def _answer(
        self, fire: Fire, topic: Topic, reply: Callable[[Message], None], stored: Stored | JournalError
    ) -> None:
        if isinstance(stored, JournalError):
            reply(Error(stored.code, str(stored), False, {"elsewhere": True}))
            return
        if not stored.is_new:
            self.counts["repeated"] += 1
        accepted = Accepted(native_id(self.journal_id, stored.sequence), self.identity.instance)
        if fire.wait_for == "ack":

            def answer(error: LightbusTimeout | None) -> None:
                reply(accepted if error is None else Error(error.code, str(error), True, {}))

            self.when_handled(topic, stored.sequence, fire.left, answer)
        else:
            reply(accepted)

    # Out

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return self._count

    def flush(self) -> int:
        """
        Store and publish what is queued; return the newest sequence of our journal. Only on the node's loop.

        The events of one topic share messages.
        """
        with self._lock:
            self._flush_is_due = False
            batch, outcome = self._store_batch()
            pending, self._pending = self._pending, {}
            live, self._pending_live = self._pending_live, {}
            self._turn += 1 + self._count // TURN_AFTER
            self._count = 0
        self._send_all(pending, self.journal_id)
        self._send_all(live, "")
        _tell_all(batch, outcome)
        return 0 if self._journal is None else self._journal.head

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        """
        Take in a subscription. One to a marker is answered with it.

        libzmq passes subscriptions on in the order they were made, so when the marker's arrives all before it are in
        force. What is queued goes out first: those events are older than the marker, and older ones are not live.
        """
        if subscribed and envelope.is_marker_topic(topic):
            head = self.flush()
            self.counts["markers"] += 1
            self._send(envelope.encode_published(topic, Marker(self.journal_id, head)))
        else:
            self._on_subscription(topic, subscribed)

    def tick(self, now: float) -> None:
        """Have topics that fell idle say which event is their newest: the last one may have been missed."""
        for topic, (sequence, at, pause) in list(self._heads.items()):
            if now >= at:
                self._send(envelope.encode_published(topic, Head(self.journal_id, sequence)))
                pause = min(2 * pause, LAST_HEAD)
                self._heads[topic] = sequence, now + pause, pause

    # Inside

    @property
    def journal_id(self) -> str:
        """Which journal holds what is published here; empty until there is one."""
        return "" if self._journal is None else self._journal.id

    def _own_journal(self) -> Journal:
        if self._journal is None or self._journal.is_closed:
            self._journal = self._journals.own()
        return self._journal

    def _may_store_at_once(self, who: object) -> bool:
        """Return whether the event of a task, or of a hand-off, need not wait for others. With the lock held."""
        if self._batch.events or self._late is not None:
            return False
        if not self._flush_is_due:
            self._run = who, 1
        else:
            firing, count = self._run
            if count == AT_ONCE or firing is not who:
                return False
            self._run = firing, count + 1
        return self._journal is not None and self._journal.is_quick

    def _store_at_once(self, topic: bytes, event: NewEvent) -> Stored | None:
        """
        Store one event and queue it for publishing. With the lock held, on the node's loop. Raises JournalError.

        None where another program has the journal locked: then it is to be enqueued.
        """
        try:
            [stored] = self._own_journal().append([event])
        except JournalError as error:
            if is_locked(error) or is_removed(error):
                return None
            self.counts["journal_errors"] += 1
            self._failures.say("journal", logging.ERROR, "An event was not stored: %s", error)
            raise
        self.counts["stored"] += 1
        if stored.is_new:
            self._pending.setdefault(topic, []).append([stored.sequence, stored.previous, event.record])
            self._count += 1
        self._flush_on_loop()
        return stored

    def _is_on_loop(self) -> bool:
        # A thread runs one loop at a time. To ask asyncio for it is a system call: it looks whether we were forked.
        return threading.get_ident() == self._thread and self.loop.is_running()

    def _enqueue(self, topic: bytes, event: NewEvent, waiter: _Waiter) -> None:
        """Add an event to this tick's batch. With the lock held, on the node's loop."""
        self._add(topic, event, waiter)
        self._count += 1
        self._flush_on_loop()

    def _add_all(
        self, batch: _Batch, topics: Sequence[tuple[bytes, Topic]], events: Sequence[NewEvent], waiter: _Waiter
    ) -> None:
        batch.topics += [topic for topic, _ in topics]
        batch.events += events
        batch.waiters += [waiter] * len(events)

    def _spread(self, api: str, event: str, rows: Sequence[Row]) -> list[tuple[bytes, Topic]]:
        """Return the topic of each: that of its key, else of so many in a row the same. With the lock held."""
        topics = self._topics.get((api, event)) or self._make_topics(api, event)
        turn = self._turn + self._count // TURN_AFTER
        self._turn += 1 + len(rows) // TOGETHER
        return [
            topics[(turn + number // TOGETHER) % PARTITIONS if key is None else partition_of(key, PARTITIONS)]
            for number, (_, key, _, _) in enumerate(rows)
        ]

    def _add(self, topic: bytes, event: NewEvent, waiter: _Waiter) -> None:
        batch = self._batch
        batch.topics.append(topic)
        batch.events.append(event)
        batch.waiters.append(waiter)

    def _flush_on_loop(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self.flush)

    def _store_batch(self) -> tuple[_Batch, Sequence[Stored | JournalError]]:
        """Store what was fired within this tick and queue it; return it with what became of each event."""
        batch = self._batch
        if self._late is not None:  # then it goes on waiting
            return _Batch(), []
        self._batch = _Batch()
        self._stores_at_once = len(batch.events) < 2
        if not batch.events:
            return batch, []
        try:
            return batch, self._stored(batch, self._own_journal().append(batch.events))
        except JournalError as error:
            if is_locked(error) or is_removed(error):
                self._store_late(batch)
                return _Batch(), []
            return batch, self._failed(batch, error)

    def _store_late(self, batch: _Batch) -> None:
        """Have a thread store a batch as soon as the journal lets it. With the lock held."""
        self._late = batch
        journal = self._own_journal()
        append = partial(journal.patiently, partial(journal.append, batch.events))
        logger.info("The journal %s is locked by another program or was removed; events wait for it", journal.path)
        self.loop.run_in_executor(None, append).add_done_callback(partial(self._stored_late, batch))

    def _stored_late(self, batch: _Batch, done: asyncio.Future[list[Stored]]) -> None:
        if done.cancelled():
            outcome: Sequence[Stored | JournalError] = [JournalError("The bus stops.")] * len(batch.events)
        else:
            error = done.exception()
            with self._lock:
                self._late = None
                if error is None:
                    outcome = self._stored(batch, done.result())
                else:
                    wrapped = error if isinstance(error, JournalError) else JournalError(f"It was not stored: {error}")
                    outcome = self._failed(batch, wrapped)
            self.flush()
        _tell_all(batch, outcome)

    def _failed(self, batch: _Batch, error: JournalError) -> Sequence[JournalError]:
        count = len(batch.events)
        self.counts["journal_errors"] += 1
        self._failures.say("journal", logging.ERROR, "Events were not stored: %s", error)
        return [error] * count

    def _stored(self, batch: _Batch, outcome: list[Stored]) -> list[Stored]:
        """Queue the events of a batch that was stored for publishing. With the lock held."""
        self.counts["stored"] += len(batch.events)
        pending = self._pending
        last, entries = b"", list[Any]()
        for topic, event, (sequence, previous, is_new) in zip(batch.topics, batch.events, outcome, strict=True):
            if is_new:
                if topic is not last:  # many in a row have the same
                    last, entries = topic, pending.setdefault(topic, [])
                entries.append([sequence, previous, event[1]])
        return outcome

    def _queue(self, topic: bytes, stored: Stored, record: bytes) -> None:
        """Queue a stored event for publishing. With the lock held, from any thread."""
        self._pending.setdefault(topic, []).append([stored.sequence, stored.previous, record])
        self._flush_soon()

    def _append_live(self, api: str, event: str, record: bytes, key: str | None) -> None:
        with self._lock:
            topic, _ = self._topic(api, event, key)
            self._queue_live(topic, record)
            self._flush_soon()

    def _queue_live(self, topic: bytes, record: bytes) -> None:
        """Number an event of best effort and queue it. With the lock held."""
        previous = self._live_numbers.get(topic, 0)
        self._live_numbers[topic] = previous + 1
        self._pending_live.setdefault(topic, []).append([previous + 1, previous, record])

    def _flush_soon(self) -> None:
        self._count += 1
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon_threadsafe(self.flush)

    def _topic(self, api: str, event: str, key: str | None) -> tuple[bytes, Topic]:
        """Return the topic of an event's partition: that of its key, else one after the other. With the lock held."""
        topics = self._topics.get((api, event)) or self._make_topics(api, event)
        if key is not None:
            return topics[partition_of(key, PARTITIONS)]
        return topics[(self._turn + self._count // TURN_AFTER) % PARTITIONS]

    def _make_topics(self, api: str, event: str) -> list[tuple[bytes, Topic]]:
        topics = [
            (envelope.event_topic(api, event, partition), Topic(api, event, partition))
            for partition in range(PARTITIONS)
        ]
        self._topics[api, event] = topics
        return topics

    def _send_all(self, batch: dict[bytes, list[list[Any]]], journal: str) -> None:
        smallest = self._receivers.smallest
        limit = min(MAX_BYTES, smallest - FRAME_OVERHEAD)
        portions = [(topic, records) for topic, entries in batch.items() for records in _portions(entries, limit)]
        if journal and journal != self._complete_of:
            self._complete_of, self._complete = journal, {}
        bounds = self._bounds(portions) if journal else [(0, 0)] * len(portions)
        for (topic, records), (follows, complete) in zip(portions, bounds, strict=True):
            size = len(records[0][2])
            if journal and size > limit:  # a subscriber keeps only few messages, and none so large
                message: Events | Head = Head(journal, records[0][0], follows, complete)
            elif size > smallest - len(topic) - FRAME_LEAST:
                self._note_dropped(topic, size)
                continue
            else:
                message = Events(journal, self.identity.instance, records, follows, complete)
            self._send(envelope.encode_published(topic, message))
        for topic, entries in batch.items():
            api, event, _, _ = topic.split(b"\0")
            self.note_published(api.decode(), event.decode(), len(entries), sum([len(entry[2]) for entry in entries]))
            if journal and (topic in self._heads or len(self._heads) < MAX_HEADS):
                self._heads[topic] = entries[-1][0], time.monotonic() + FIRST_HEAD, FIRST_HEAD

    def note_published(self, api: str, event: str, count: int, size: int) -> None:
        """Count events that were published, and their bytes."""
        self.counts["published"] += count
        self.published[api, event] += count
        self.published_bytes[api, event] += size

    def _note_dropped(self, topic: bytes, size: int) -> None:
        """Count an event of best effort that a subscriber cannot take, whose connection would be broken off by it."""
        self.counts["too_large"] += 1
        if (count := self.counts["too_large"]) in (1, 10, 100) or count % 1000 == 0:
            logger.warning(
                "%d events of best effort were dropped so far, since a subscriber takes no messages over %d bytes; the "
                "last one, of %s, takes %d. Raise network.max_message_size there, or send less.",
                count, self._receivers.smallest, ".".join(envelope.split_topic(topic)[:2]), size,
            )  # fmt: skip

    def _bounds(self, portions: list[tuple[bytes, list[Any]]]) -> list[tuple[int, int]]:
        """
        Sort messages by their first events; return for each up to where its event was published before, and is with it.

        So a subscriber to all partitions can put their events in order, and sees that a message is missing though the
        next one is of another topic.
        """
        portions.sort(key=lambda portion: portion[1][0][0])
        ahead: dict[bytes, int] = {}
        """Per event the first sequence of the messages that follow: all before it were published then."""
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

    def record(self, message: EventMessage) -> bytes:
        """Return an event as it is kept. Raises DeformError, and PayloadTooLarge where it is too much."""
        record = record_of(message)
        if len(record) + FRAME_OVERHEAD > self.max_message_size:
            raise self._too_large(message.canonical_name, record)
        return record

    def _too_large(self, what: str, record: bytes) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The arguments of {what} take {len(record)} bytes; a message may have {self.max_message_size}. "
            "Send less, or raise network.max_message_size on both sides."
        )


def _tell_all(batch: _Batch, outcome: Sequence[Stored | JournalError]) -> None:
    for waiter, each in zip(batch.waiters, outcome, strict=True):
        _tell(waiter, each)


def _settle(future: Future[Stored], outcome: Stored | JournalError) -> None:
    if isinstance(outcome, JournalError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _tell(waiter: _Waiter, outcome: Stored | JournalError) -> None:
    if not isinstance(waiter, asyncio.Future):
        waiter(outcome)
    elif not waiter.done():
        if isinstance(outcome, JournalError):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)


def _completed(event: Event, data: bytes) -> tuple[dict[str, Any], bytes, str]:
    """Return arguments, record and id of an event with what its sender, who may not know the Api, left out."""
    record = envelope.decode_record(data)
    kwargs = event.signature.fill_defaults(record.kwargs)
    event.signature.validate(kwargs)
    if kwargs is record.kwargs and record.version == event.version:
        return kwargs, data, record.id
    return kwargs, envelope.encode_record(record._replace(kwargs=kwargs, version=event.version)), record.id


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
