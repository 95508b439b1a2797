"""Publishes events if event backends keep those of some APIs: these go to their backend, all others to the journal."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ...core.partitions import partition_of
from ...exceptions import EventBackendError, EventBackendUnreachable, JournalError, LightbusException, LightbusTimeout
from ...interrupts import interruptible
from ...message import EventMessage
from ...ports.events import EventTopic, OutgoingEvent
from ...ports.outbox import EventOutbox
from ...recurring import RecurringLog
from ...service.api import ApiRegistry, Event
from ...wire.envelope import PARTITIONS, Accepted, AnyMessage, Error, Fire
from ..backend_places import AnyPlace, BackendPlace
from ..event_record import RecordRow, key_of, native_id
from ..publishing.batches import Batches
from ..publishing.outcome_collector import OutcomeCollector
from ..publishing.partition_turns import TURN_AFTER
from ..publishing.publisher import Publisher
from .backend_listeners import Backends
from .backend_outbox import BackendOutbox, Keepable

__all__ = ["BackendPublisher"]

logger = logging.getLogger("lightbus.publishing")

PUBLISH_TIMEOUT = 30.0
"""Seconds after which an event counts as not stored if its backend does not answer."""

IN_OUTBOX = "No group can have handled it yet: its event backend cannot be reached, and the event waits in the outbox"
HANDED_OVER = "until it can. Then it is handed over, and delivered to the groups."

MAX_BATCH = 500
"""Events passed to a backend at a time."""


_Settle: TypeAlias = Callable[["BackendPlace | JournalError"], None]


@dataclass(slots=True)
class _Queued:
    """
    An event to be stored.

    Attributes:
        event: the event.
        key: its key.
        is_own: whether it was fired by this process: then it waits in our outbox while the backend cannot be reached.
            An event that was handed off waits at the process that has fired it.
        settle: called with the outcome.

    """

    event: OutgoingEvent
    key: str | None
    is_own: bool
    settle: _Settle


class BackendPublisher:
    """
    Passes each event to the store of its API. Thread-safe.

    Events that are fired while a backend is busy with earlier ones are sent to it together, in order.

    Args:
        journal: publishes the events that no backend keeps.
        backends: the event backends.
        apis: the APIs whose events may be fired.
        outbox: keeps events that a backend does not accept.
        executor: the threads that wait for the disk.

    """

    def __init__(
        self,
        journal: Publisher,
        backends: Backends,
        apis: ApiRegistry,
        *,
        outbox: EventOutbox,
        executor: Callable[[], Executor],
    ) -> None:
        self.counts: Counter[str] = Counter()
        """stored, failed, handed_off (to us), put_by (into the outbox)."""
        self.outbox = BackendOutbox(outbox, journal.identity.service, executor, self.counts)
        self._journal = journal
        self._backends = backends
        self._apis = apis
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._numbers = itertools.count()
        self._waiting: defaultdict[str, list[_Queued]] = defaultdict(list)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._failures = RecurringLog(logger)
        self.batches = Batches(
            journal.identity,
            journal.batcher,
            journal.size,
            journal.hand_offs,
            journal.counts,
            self.handled_by_all,
            self,
        )

    def put_together(
        self, api: str, event: str, rows: Sequence[RecordRow], ids: Sequence[str], *, is_own: bool
    ) -> Future[list[BackendPlace]]:
        """Queue events for the backend of an API: it gets up to MAX_BATCH at a time, and stores them one by one."""
        together: OutcomeCollector[BackendPlace] = OutcomeCollector(len(rows))
        queued = []
        for (record, key, published_at, _), id in zip(rows, ids, strict=True):
            topic = EventTopic(event, self._partition(key))
            outgoing = OutgoingEvent(api=api, topic=topic, id=id, record=record, published_at=published_at)
            queued.append(_Queued(outgoing, key, is_own, together))
        self._loop.call_soon_threadsafe(self._put_all, queued)
        return together.future

    def _put_all(self, queued: Sequence[_Queued]) -> None:
        for each in queued:
            self._put(each)

    def is_kept_elsewhere(self, api: str, event: Event | None) -> bool:
        """Return whether a backend keeps an event, and not the journal."""
        return event is not None and event.delivery != "best_effort" and self._backends.has(api)

    # Events of this process

    def publish(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Store an event; from any thread but the node's. Raises as `Publisher.publish`."""
        if not self.is_kept_elsewhere(message.api_name, event):
            return self._journal.publish(message, event)
        kept: Future[BackendPlace] = Future()
        self._loop.call_soon_threadsafe(self._put, self._queued(message, event, partial(_settle, kept)))
        try:
            place = interruptible(kept.result, PUBLISH_TIMEOUT)
        except TimeoutError:
            raise self._no_answer(message.canonical_name) from None
        return self._noted(message, place)

    def begin(self, message: EventMessage, event: Event) -> Awaitable[object] | None:
        """Begin to store an event, on a loop; return the future to await, None if there is none."""
        if self.is_kept_elsewhere(message.api_name, event):
            return self.publish_async(message, event)
        return self._journal.begin(message, event)

    async def publish_async(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Store an event, on a loop; return its place, None for one of best effort."""
        if not self.is_kept_elsewhere(message.api_name, event):
            return await self._journal.publish_async(message, event)
        if threading.get_ident() == self._thread:
            kept: asyncio.Future[BackendPlace] = self._loop.create_future()
            self._put(self._queued(message, event, partial(_settle, kept)))
        else:
            elsewhere: Future[BackendPlace] = Future()
            self._loop.call_soon_threadsafe(self._put, self._queued(message, event, partial(_settle, elsewhere)))
            kept = asyncio.wrap_future(elsewhere)
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                place = await kept
        except TimeoutError:
            raise self._no_answer(message.canonical_name) from None
        return self._noted(message, place)

    def _queued(self, message: EventMessage, event: Event, settle: _Settle) -> _Queued:
        record = self._journal.record(message)
        key = key_of(event, message.kwargs)
        topic = EventTopic(message.event_name, self._partition(key))
        outgoing = OutgoingEvent(
            api=message.api_name, topic=topic, id=message.id, record=record, published_at=message.published_at
        )
        return _Queued(outgoing, key, True, settle)

    def _partition(self, key: str | None) -> int:
        if key is not None:
            return partition_of(key, PARTITIONS)
        return next(self._numbers) // TURN_AFTER % PARTITIONS

    def _noted(self, message: EventMessage, place: BackendPlace) -> BackendPlace:
        message.native_id = place.store, place.sequence
        message.publisher = self._journal.identity.instance
        return place

    def _no_answer(self, what: str) -> EventBackendError:
        return EventBackendError(
            f"The event backend did not confirm within {PUBLISH_TIMEOUT:g} s that it keeps {what}. It may keep it "
            "nevertheless: fired again, it may be there twice. See whether the backend runs (apis.<name>.events)."
        )

    # Events of other processes

    def hand_off(self, fire: Fire, reply: Callable[[AnyMessage], None]) -> None:
        """Store an event for a process that does not publish; answer once it is stored, or handled if asked for."""
        api = self._apis.find(fire.api)
        event = None if api is None else api.events.get(fire.event)
        if event is None or not self.is_kept_elsewhere(fire.api, event):
            self._journal.hand_off(fire, reply)
            return
        try:
            event, kwargs, data, id = self._journal.hand_offs.received(fire.target, fire.api, fire.event, fire.record)
        except LightbusException as error:
            self._journal.hand_offs.refuse(error, reply)
            return
        self.counts["handed_off"] += 1
        key = fire.key if fire.key is not None else key_of(event, kwargs)
        topic = EventTopic(fire.event, self._partition(key))
        outgoing = OutgoingEvent(api=fire.api, topic=topic, id=id, record=data, published_at=time.time())
        self._put(_Queued(outgoing, key, False, partial(self._answer, fire, reply)))

    def _answer(self, fire: Fire, reply: Callable[[AnyMessage], None], outcome: BackendPlace | JournalError) -> None:
        if isinstance(outcome, JournalError):
            reply(Error(outcome.code, str(outcome), False, {"elsewhere": True}))
            return
        accepted = Accepted(native_id(outcome.store, outcome.sequence), self._journal.identity.instance)
        if fire.wait_for != "ack":
            reply(accepted)
            return

        def handled(future: Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is None:
                reply(accepted)
            elif not isinstance(error, TimeoutError):  # else the caller has given up by itself
                text = f"Whether every group has handled the event is not known. It is stored: {error}"
                reply(Error(LightbusTimeout.code, text, True, {}))

        self.handled_by_all(outcome, fire.left).add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(handled, future)
        )

    # Sending to backends

    @property
    def put_by(self) -> list[str]:
        """A sentence about each API whose events wait in the outbox."""
        return self.outbox.problems

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return self._journal.waiting + sum(map(len, self._waiting.values()))

    def flush(self) -> int:
        """Store and publish the events queued for the journal; those for backends are being sent already."""
        return self._journal.flush()

    def handled_by_all(self, place: Any, seconds: float) -> Future[None]:
        """Return a future that is done once every group has handled an event; it fails after so many seconds."""
        if not isinstance(place, BackendPlace):
            return self._journal.handled_by_all(place, seconds)
        if place.backend is None:
            waits: Future[None] = Future()
            waits.set_exception(LightbusTimeout(f"{IN_OUTBOX} {self.outbox.path} {HANDED_OVER}"))
            return waits
        handled = place.backend.when_handled(place.api, place.sequence)
        return asyncio.run_coroutine_threadsafe(_within(seconds, handled), self._loop)

    def _put(self, queued: _Queued) -> None:
        """Queue an event for its backend. On the node's loop."""
        api = queued.event.api
        self._waiting[api].append(queued)
        if api not in self._sending:
            self._sending[api] = self._loop.create_task(self._send(api))

    async def _send(self, api: str) -> None:
        waiting = self._waiting[api]
        try:
            while waiting:
                batch = waiting[:MAX_BATCH]
                del waiting[:MAX_BATCH]
                if await self.outbox.has(api):
                    await self._keep_here(api, [queued for queued in batch if queued.is_own], None)
                    batch = [queued for queued in batch if not queued.is_own]
                if batch:
                    await self._send_batch(api, batch)
        finally:
            del self._sending[api]

    async def _send_batch(self, api: str, batch: list[_Queued]) -> None:
        try:
            backend = await self._backends.get(api)
            outcomes = await backend.publish([queued.event for queued in batch])
        except EventBackendUnreachable as error:
            await self._unreachable(api, batch, error)
            return
        except BaseException as error:
            failed = error if isinstance(error, EventBackendError) else EventBackendError(f"It was not kept: {error}")
            self._failed(batch, failed)
            if not isinstance(error, Exception):
                raise
            return
        unreachable: dict[EventBackendUnreachable, list[_Queued]] = {}
        for queued, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, EventBackendUnreachable):
                unreachable.setdefault(outcome, []).append(queued)
            elif isinstance(outcome, EventBackendError):
                self._failed([queued], outcome)
            else:
                event = queued.event
                self.counts["stored"] += 1
                self._journal.broadcast.note_published(event.api, event.topic.event, 1, len(event.record))
                queued.settle(BackendPlace(api, backend, outcome))
        for reason, those in unreachable.items():
            await self._unreachable(api, those, reason)

    async def _unreachable(self, api: str, batch: Sequence[_Queued], error: EventBackendUnreachable) -> None:
        """
        Store our own events in the outbox, and refuse those that were handed off, so that their senders keep them.

        Events handed off meanwhile are refused, too: they may have to stay behind these.
        """
        waiting = self._waiting[api]
        behind = [queued for queued in waiting if not queued.is_own]
        waiting[:] = [queued for queued in waiting if queued.is_own]
        self._failed([queued for queued in [*batch, *behind] if not queued.is_own], error)
        await self._keep_here(api, [queued for queued in batch if queued.is_own], error)

    async def _keep_here(self, api: str, batch: Sequence[_Queued], error: EventBackendUnreachable | None) -> None:
        """Put events into the outbox, because of `error`, or because earlier ones wait there (None)."""
        if not batch:
            return
        rows = [Keepable(each.event.topic.event, each.event.id, each.key, each.event.record) for each in batch]
        try:
            await self.outbox.keep(api, rows, error)
        except JournalError as failure:
            self._failed(batch, failure)
            return
        for each in batch:
            each.settle(BackendPlace(api))

    def _failed(self, batch: Sequence[_Queued], error: JournalError) -> None:
        for queued in batch:
            self.counts["failed"] += 1
            if queued.is_own or not isinstance(error, EventBackendUnreachable):  # else it waits at its sender
                self._failures.log("backend", logging.ERROR, "An event was not kept: %s", error)
            queued.settle(error)


async def _within(seconds: float, handled: Awaitable[None]) -> None:
    async with asyncio.timeout(seconds):
        await handled


def _settle(future: Future[BackendPlace] | asyncio.Future[BackendPlace], outcome: BackendPlace | JournalError) -> None:
    """Set the outcome of a future, unless it is cancelled."""
    # A future of another thread may be cancelled at any moment before it is marked as running, not afterwards.
    if future.done() if isinstance(future, asyncio.Future) else not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, JournalError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
