"""Publishing where an event backend keeps the events of some APIs: these go there, all others into the journal."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from ..core.partitions import partition_of
from ..exceptions import EventBackendError, LightbusException, LightbusTimeout
from ..message import EventMessage
from ..ports.events import EventBackend, EventTopic, OutgoingEvent
from ..recurring import RecurringLog
from ..service.api import ApiRegistry, Event
from ..wire.envelope import PARTITIONS, Accepted, Error, Fire, Message
from .backend_listeners import Backends
from .batcher import Row
from .event_record import key_of, native_id
from .partition_turns import TURN_AFTER
from .publisher import Place, Publisher
from .together import Together

__all__ = ["AnyPlace", "BackendPlace", "BackendPublisher", "EventPublisher"]

logger = logging.getLogger("lightbus.publishing")

PUBLISH_TIMEOUT = 10.0
"""Seconds after which a backend that does not answer has not kept an event, as far as we know."""

MAX_BATCH = 500
"""Events that are given to a backend at a time."""


@dataclass(frozen=True, slots=True)
class BackendPlace:
    """Where an event is that a backend keeps."""

    backend: EventBackend
    api: str
    sequence: int


AnyPlace: TypeAlias = Place | BackendPlace
"""Where an event is."""


class EventPublisher(Protocol):
    """What publishes for this process: its `Publisher`, or a `BackendPublisher` in front of that."""

    @property
    def waiting(self) -> int:
        """How many events are queued."""

    def publish(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Have an event kept and published, from any thread; return where it is, None for one of best effort."""

    async def publish_async(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Do the same on a loop."""

    def hand_off(self, fire: Fire, reply: Callable[[Message], None]) -> None:
        """Publish an event for a process that cannot."""

    def handled_by_all(self, place: Any, seconds: float) -> Future[None]:
        """Return what is done once every group has handled an event that is owed it; takes what `publish` returned."""

    def flush(self) -> int:
        """Store and publish what is queued."""


_Settle: TypeAlias = Callable[["BackendPlace | EventBackendError"], None]


class BackendPublisher:
    """
    Gives each event to whatever keeps those of its API. Any thread may use it.

    What is fired while a backend is busy with what came before goes to it together, in order.

    Args:
        journal: publishes what no backend keeps.
        backends: which keep what.
        apis: whose events may be fired.

    """

    def __init__(self, journal: Publisher, backends: Backends, apis: ApiRegistry) -> None:
        self.counts: Counter[str] = Counter()
        """stored, failed, handed_off (to us)."""
        self._journal = journal
        self._backends = backends
        self._apis = apis
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._numbers = itertools.count()
        self._waiting: defaultdict[str, list[tuple[OutgoingEvent, _Settle]]] = defaultdict(list)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._failures = RecurringLog(logger)

    @property
    def journal(self) -> Publisher:
        """What publishes that which no backend keeps."""
        return self._journal

    def put_together(self, api: str, event: str, rows: Sequence[Row], ids: Sequence[str]) -> Future[list[BackendPlace]]:
        """Give events to the backend of an API behind those that wait: 500 at a time, which it keeps one by one."""
        together: Together[BackendPlace] = Together(len(rows))
        outgoing = [
            OutgoingEvent(
                api=api, topic=EventTopic(event, self._partition(key)), id=id, record=record, published_at=published_at
            )
            for (record, key, published_at, _), id in zip(rows, ids, strict=True)
        ]
        self._loop.call_soon_threadsafe(self._put_all, outgoing, together)
        return together.future

    def _put_all(self, events: Sequence[OutgoingEvent], settle: _Settle) -> None:
        for event in events:
            self._put(event, settle)

    def is_kept_elsewhere(self, api: str, event: Event | None) -> bool:
        """Return whether a backend keeps an event, and no journal."""
        return event is not None and event.delivery != "best_effort" and self._backends.has(api)

    # From this process

    def publish(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Have an event kept; from any thread but the node's. Raises what `Publisher.publish` raises."""
        if not self.is_kept_elsewhere(message.api_name, event):
            return self._journal.publish(message, event)
        kept: Future[BackendPlace] = Future()
        self._loop.call_soon_threadsafe(self._put, self._outgoing(message, event), partial(_settle, kept))
        try:
            place = kept.result(PUBLISH_TIMEOUT)
        except TimeoutError:
            raise self._no_answer(message.canonical_name) from None
        return self._noted(message, place)

    async def publish_async(self, message: EventMessage, event: Event) -> AnyPlace | None:
        """Do the same on a loop."""
        if not self.is_kept_elsewhere(message.api_name, event):
            return await self._journal.publish_async(message, event)
        outgoing = self._outgoing(message, event)
        if threading.get_ident() == self._thread:
            kept: asyncio.Future[BackendPlace] = self._loop.create_future()
            self._put(outgoing, partial(_settle, kept))
        else:
            elsewhere: Future[BackendPlace] = Future()
            self._loop.call_soon_threadsafe(self._put, outgoing, partial(_settle, elsewhere))
            kept = asyncio.wrap_future(elsewhere)
        try:
            place = await asyncio.wait_for(kept, PUBLISH_TIMEOUT)
        except TimeoutError:
            raise self._no_answer(message.canonical_name) from None
        return self._noted(message, place)

    def _outgoing(self, message: EventMessage, event: Event) -> OutgoingEvent:
        record = self._journal.record(message)
        key = key_of(event, message.kwargs)
        topic = EventTopic(message.event_name, self._partition(key))
        return OutgoingEvent(
            api=message.api_name, topic=topic, id=message.id, record=record, published_at=message.published_at
        )

    def _partition(self, key: str | None) -> int:
        if key is not None:
            return partition_of(key, PARTITIONS)
        return next(self._numbers) // TURN_AFTER % PARTITIONS

    def _noted(self, message: EventMessage, place: BackendPlace) -> BackendPlace:
        message.native_id = place.backend.store(place.api), place.sequence
        message.publisher = self._journal.identity.instance
        return place

    def _no_answer(self, what: str) -> EventBackendError:
        return EventBackendError(
            f"The event backend did not say within {PUBLISH_TIMEOUT:g} s that it keeps {what}. It may do so all the "
            "same; fired again, it may be there twice. See whether the backend runs (apis.<name>.events)."
        )

    # From others

    def hand_off(self, fire: Fire, reply: Callable[[Message], None]) -> None:
        """Have an event kept for a process that does not publish; answer once it is (or is handled)."""
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
        self._put(outgoing, partial(self._answer, fire, reply))

    def _answer(self, fire: Fire, reply: Callable[[Message], None], outcome: BackendPlace | EventBackendError) -> None:
        if isinstance(outcome, EventBackendError):
            reply(Error(outcome.code, str(outcome), False, {"elsewhere": True}))
            return
        accepted = Accepted(
            native_id(outcome.backend.store(outcome.api), outcome.sequence), self._journal.identity.instance
        )
        if fire.wait_for != "ack":
            reply(accepted)
            return

        def handled(future: Future[None]) -> None:
            if future.cancelled() or future.exception() is None:
                reply(accepted)
            else:
                text = "Not every group has handled the event in time. It is kept, and they are given it all the same."
                reply(Error(LightbusTimeout.code, text, True, {}))

        self.handled_by_all(outcome, fire.left).add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(handled, future)
        )

    # Out

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return self._journal.waiting + sum(map(len, self._waiting.values()))

    def flush(self) -> int:
        """Store and publish what is queued for the journal; what backends keep is on its way."""
        return self._journal.flush()

    def handled_by_all(self, place: Any, seconds: float) -> Future[None]:
        """Return what is done once every group that is owed an event has handled it; it fails after so many seconds."""
        if not isinstance(place, BackendPlace):
            return self._journal.handled_by_all(place, seconds)
        handled = place.backend.when_handled(place.api, place.sequence)
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(handled, seconds), self._loop)

    def _put(self, event: OutgoingEvent, settle: _Settle) -> None:
        """Send an event behind those that wait. On the node's loop."""
        self._waiting[event.api].append((event, settle))
        if event.api not in self._sending:
            self._sending[event.api] = self._loop.create_task(self._send(event.api))

    async def _send(self, api: str) -> None:
        waiting = self._waiting[api]
        try:
            while waiting:
                batch = waiting[:MAX_BATCH]
                del waiting[:MAX_BATCH]
                await self._send_batch(api, batch)
        finally:
            del self._sending[api]

    async def _send_batch(self, api: str, batch: list[tuple[OutgoingEvent, _Settle]]) -> None:
        try:
            backend = await self._backends.get(api)
            outcomes = await backend.publish([event for event, _ in batch])
        except BaseException as error:
            failed = error if isinstance(error, EventBackendError) else EventBackendError(f"It was not kept: {error}")
            for _, settle in batch:
                self._failed(failed)
                settle(failed)
            if not isinstance(error, Exception):
                raise
            return
        for (event, settle), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, EventBackendError):
                self._failed(outcome)
                settle(outcome)
            else:
                self.counts["stored"] += 1
                self._journal.broadcast.note_published(event.api, event.topic.event, 1, len(event.record))
                settle(BackendPlace(backend, api, outcome))

    def _failed(self, error: EventBackendError) -> None:
        self.counts["failed"] += 1
        self._failures.say("backend", logging.ERROR, "An event was not kept: %s", error)


def _settle(
    future: Future[BackendPlace] | asyncio.Future[BackendPlace], outcome: BackendPlace | EventBackendError
) -> None:
    if future.done():
        return
    if isinstance(outcome, EventBackendError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
