"""The path of a fired event: validate -> journal -> PUB; and the hand-off for processes that do not publish.

An event is numbered and stored before it is published: a consumer that misses it reads it from the journal. Events of
best effort are only numbered and published.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeAlias

from ...adapters.sqlite.journal import Journal, Stored
from ...adapters.sqlite.topic import Topic
from ...exceptions import JournalError, LightbusTimeout
from ...interrupts import interruptible
from ...membership.context import Identity
from ...message import EventMessage
from ...service.api import ApiRegistry, Event
from ...wire import envelope
from ...wire.envelope import AnyMessage, Fire
from ...wire.sizes import Receivers
from ..backend_places import Place
from ..event_publisher import LATE_TIMEOUT
from ..event_record import key_of, record_of
from .batcher import Batcher, OwnJournal
from .batches import Batches
from .broadcast import Broadcast
from .hand_off import HandOffs, WhenHandled
from .record_size import RecordSize

__all__ = ["OnSubscription", "Publisher"]

OnSubscription: TypeAlias = Callable[[bytes, bool], None]
"""Called with the topic of every subscription that begins or ends."""


CROWD = 512
"""Events queued for publishing beyond which a task that fires events yields to other tasks."""


class Publisher:
    """
    Publishes the events of the APIs that this process advertises. `publish` is thread-safe.

    Args:
        identity: the identity of this process.
        apis: the APIs whose events may be fired.
        send: publishes a frame.
        journals: the source of this process's journal.
        receivers: the subscribers, and how large a message each accepts.
        when_handled: calls back once all groups have handled an event of our own journal.
        on_subscription: called with every subscription that is not to a marker.
        max_message_size: the largest frame, in bytes.
        validates: returns whether events of an API that are handed off are validated against its schema.

    Attributes:
        batcher: stores events.
        broadcast: publishes stored events.
        hand_offs: publishes events of other processes.
        batches: publishes events that are fired together.
        size: checks the size of events.

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
        on_subscription: OnSubscription,
        max_message_size: int,
        validates: Callable[[str], bool] = lambda api: True,
    ) -> None:
        self.identity = identity
        self.counts: Counter[str] = Counter()
        """published, stored, handed_off (to us), repeated, refused, markers, journal_errors, too_large."""
        self.broadcast = Broadcast(identity.instance, send, receivers, self.counts)
        self.batcher = Batcher(journals, self.broadcast, self.counts)
        self.loop = self.batcher.loop
        self.published, self.published_bytes = self.broadcast.published, self.broadcast.published_bytes
        self.size = RecordSize(max_message_size)
        self.hand_offs = HandOffs(identity, apis, self.batcher, self.size, when_handled, self.counts, validates)
        self.batches = Batches(identity, self.batcher, self.size, self.hand_offs, self.counts, self.handled_by_all)
        self._when_handled = when_handled
        self._on_subscription = on_subscription

    def publish(self, message: EventMessage, event: Event) -> Place | None:
        """
        Store and publish an event of this process, and set its place in its message. Thread-safe.

        Return its place; None for an event of best effort.

        Raises DeformError if an argument cannot be encoded, PayloadTooLarge if the event is too large, JournalError if
        it cannot be stored.
        """
        begun = self._begin(message, event)
        if begun is None:
            return None
        journal, name, stored = begun
        if isinstance(stored, Future):
            try:
                stored = interruptible(stored.result, LATE_TIMEOUT)
            except TimeoutError:
                raise _not_stored(journal) from None
        return self._published(message, journal, name, stored)

    async def _publish_elsewhere(self, message: EventMessage, event: Event) -> Place | None:
        """Store and publish an event of this process, from another loop than the node's."""
        begun = self._begin(message, event)
        if begun is None:
            return None
        journal, name, stored = begun
        if isinstance(stored, Future):
            try:
                async with asyncio.timeout(LATE_TIMEOUT):  # `wait_for` may forget a cancellation, before Python 3.12
                    stored = await asyncio.wrap_future(stored)
            except TimeoutError:
                raise _not_stored(journal) from None
        return self._published(message, journal, name, stored)

    def _begin(self, message: EventMessage, event: Event) -> tuple[Journal, Topic, Stored | Future[Stored]] | None:
        """Store an event at once, or later if the journal is locked; return None for one of best effort."""
        record = self.record(message)
        key = key_of(event, message.kwargs)
        names = message.api_name, message.event_name
        if event.delivery == "best_effort":
            self.batcher.append_live(names, record, key)
            message.publisher = self.identity.instance
            return None
        return self.batcher.append_elsewhere(names, record, key, message.published_at)

    def _published(self, message: EventMessage, journal: Journal, name: Topic, stored: Stored) -> Place:
        message._native_id = journal.id, stored.sequence
        message.publisher = self.identity.instance
        return name, stored.sequence

    def begin(self, message: EventMessage, event: Event) -> Awaitable[object] | None:
        """
        Begin to store and publish an event, on a loop; its place is set in its message.

        Return an awaitable that is done once the event is stored; None if it is stored already. For an event of best
        effort return None, or if too many are queued an awaitable that yields to other tasks.
        """
        is_kept = event.delivery != "best_effort"
        if is_kept and not self.batcher.is_on_loop():
            return self._publish_elsewhere(message, event)
        record = record_of(message)
        if len(record) > self.size.most:
            self.size.check(message.canonical_name, record)
        key = None if event.key is None else key_of(event, message.kwargs)
        message.publisher = self.identity.instance
        if is_kept:
            return self.batcher.keep(message, record, key)
        waiting = self.batcher.append_live((message.api_name, message.event_name), record, key)
        return asyncio.sleep(0) if waiting > CROWD else None

    async def publish_async(self, message: EventMessage, event: Event) -> Place | None:
        """Store and publish an event. All events fired within one tick of the loop are stored in one commit."""
        if event.delivery == "best_effort" or not self.batcher.is_on_loop():
            place = await self._publish_elsewhere(message, event)
            if self.batcher.waiting > CROWD:
                await asyncio.sleep(0)
            return place
        record = self.record(message)
        key = None if event.key is None else key_of(event, message.kwargs)
        names = message.api_name, message.event_name
        who, kept = asyncio.current_task(self.loop), self.loop.create_future()
        name, stored = self.batcher.append(names, record, key, message.published_at, "", who, kept)
        if stored is None:
            stored = await kept
        message._native_id = self.batcher.journal_id, stored[0]
        message.publisher = self.identity.instance
        return name, stored[0]

    def handled_by_all(self, place: Place, seconds: float) -> Future[None]:
        """
        Return a future that is done once every group has handled an event of our journal. Thread-safe.

        After so many seconds it is dropped, and is never done. It may raise LightbusTimeout before that.
        """
        handled: Future[None] = Future()

        def done(error: LightbusTimeout | None) -> None:
            if not handled.set_running_or_notify_cancel():
                return  # the caller does not wait any more
            if error is None:
                handled.set_result(None)
            else:
                handled.set_exception(error)

        self.loop.call_soon_threadsafe(self._when_handled, *place, seconds, done)
        return handled

    def record(self, message: EventMessage) -> bytes:
        """Return the encoded record of an event. Raises DeformError, or PayloadTooLarge."""
        record = record_of(message)
        if len(record) > self.size.most:
            self.size.check(message.canonical_name, record)
        return record

    def hand_off(self, fire: Fire, reply: Callable[[AnyMessage], None]) -> None:
        """Publish an event for a process that does not; answer once it is stored, or handled if it asks for that."""
        self.hand_offs.take(fire, reply)

    @property
    def put_by(self) -> list[str]:
        """Nothing: if the journal cannot store an event, the code that fires it gets an error."""
        return []

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return self.batcher.waiting

    def flush(self) -> int:
        """Store and publish the queued events; return the newest sequence of our journal. Only on the node's loop."""
        return self.batcher.flush()

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        """
        Record a subscription; answer one to a marker by publishing the marker.

        libzmq passes subscriptions on in the order they were made, so when that of the marker arrives, all earlier ones
        are in force. Queued events are published first: they are older than the marker.
        """
        if subscribed and envelope.is_marker_topic(topic):
            head = self.batcher.flush()
            self.broadcast.send_marker(topic, self.batcher.journal_id, head)
        else:
            self._on_subscription(topic, subscribed)

    def tick(self, now: float) -> None:
        """Publish the heads of idle topics."""
        self.broadcast.tick(now)


def _not_stored(journal: Journal) -> JournalError:
    return JournalError(f"The journal {journal.path} did not store the event: its worker stops.")
