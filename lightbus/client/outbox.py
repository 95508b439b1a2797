"""Events without a publisher: stored on the disk of this host until there is one.

They go into the outbox of this host. Once a publisher is reachable, any process of this bus and user on this host hands
them off, whatever its service. A process that has registered the API becomes the publisher itself, unless it ends
first; so does a later process that finds unpublished events of the API in the outbox or in its service's journals.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from ..deadline import Deadline
from ..engine.engine import Engine
from ..events.event_publisher import LATE_TIMEOUT, EventPublisher
from ..events.event_record import key_of, record_of
from ..exceptions import JournalError, LightbusException, NotReachable
from ..interrupts import interruptible
from ..message import EventMessage
from ..ports.outbox import EventOutbox
from ..service.api import Event
from ..wire.envelope import Accepted, AnyMessage, Fire
from .engine_holder import EngineHolder
from .registration import Registration
from .worker_holder import WorkerHolder

__all__ = ["UnpublishedEvents"]

logger = logging.getLogger("lightbus.client")

PUBLISH_AFTER = 0.5
"""Seconds after which a process publishes stored events of its own APIs: a short script has ended by then."""

MOST_TAKEN = 1000
"""The most events that a process takes from the outbox when it becomes their publisher; others are handed off."""


class UnpublishedEvents:
    """
    The part of a client that stores events without a publisher on disk, and has them published later.

    Args:
        engines: knows this process and the publishers; its lock is held while stored events change.
        registration: the APIs of which this process can be the publisher, and the loaded schemas.
        workers: tells whether a worker runs, which publishes anyway.
        publish: makes this process the publisher; called in a thread.

    Attributes:
        dropped: number of best-effort events dropped for lack of a publisher.

    """

    def __init__(
        self,
        engines: EngineHolder,
        registration: Registration,
        workers: WorkerHolder,
        publish: Callable[[], None],
    ) -> None:
        self.dropped = 0
        self._engines = engines
        self._registration = registration
        self._workers = workers
        self._publish = publish
        self._seen: set[tuple[str, str]] = set()
        """Events whose existence is recorded on disk."""
        self._kept: Counter[str] = Counter()
        """Number of events, by registered API, put into the outbox by this process since it last began to publish."""
        self._publishing: threading.Timer | None = None
        """The timer after which this process publishes the events it stored."""
        self._resuming: threading.Timer | None = None
        """The timer after which this process publishes what an earlier process left."""
        engines.observe(self._resume)

    def keep(self, message: EventMessage, event: Event | None, wait_for: str, error: NotReachable) -> None:
        """
        Store an event that has no publisher. A best-effort event is dropped and counted, without an error.

        Raises `error` if the event must not be stored: this host does not know it, or the caller waits for the groups
        to handle it. Raises JournalError if storing fails.
        """
        self.keep_all([message], event, wait_for, error)

    def keep_all(
        self, messages: Sequence[EventMessage], event: Event | None, wait_for: str, error: NotReachable
    ) -> None:
        """Store several events of one name that have no publisher, as `keep` does: all or none."""
        message = messages[0]
        if event is not None and event.delivery == "best_effort":
            self.dropped += len(messages)
            logger.debug("%r was dropped, with all events fired together with it: %s", message, error)
        elif wait_for == "ack" or (event is None and not self.is_known(message.api_name, message.event_name)):
            raise error
        else:
            self._put(messages, event)

    def _put(self, messages: Sequence[EventMessage], event: Event | None) -> None:
        outbox = self._outbox
        rows = [(each.id, key_of(event, each.kwargs), record_of(each)) for each in messages]
        api, name = messages[0].api_name, messages[0].event_name
        with self._engines.lock:
            publisher = self._engines.engine.publisher
            if publisher is not None and event is not None:  # it has just become the publisher: see adopt_publisher
                interruptible(publisher.batches.publish(messages, event).result, LATE_TIMEOUT)
                return
            service = "" if event is None else self._engines.engine.identity.service
            outbox.put_all(api=api, event=name, rows=rows, service=service)
            if event is not None:
                self._kept[api] += len(rows)
                self._publish_soon()
                return
        logger.warning(
            "Nobody publishes %s at the moment. The event %s%s waits on this host: once there is a publisher, any "
            "process of the bus '%s' on this host hands it over",
            f"{api}.{name}",
            messages[0].id,
            f" (and {len(rows) - 1} fired with it)" if len(rows) > 1 else "",
            self._engines.engine.identity.bus,
        )

    def _publish_soon(self) -> None:
        """Publish the stored events after PUBLISH_AFTER, unless this process ends first. Called with the lock held."""
        if self._publishing is None and self._workers.worker is None and not self._engines.is_closed:
            self._publishing = _later(PUBLISH_AFTER, self._publish_now)

    def _publish_now(self) -> None:
        with self._engines.lock:
            self._publishing = None
        self._publish()

    def adopt_publisher(self, publisher: EventPublisher) -> None:
        """
        Become the publisher of the events this process fires, first of those it has put into the outbox.

        On the node's loop, with the lock held, so that the events of a key stay in order: meanwhile no other event is
        stored or published.
        """
        engine = self._engines.engine
        with self._engines.lock:
            try:
                self._take_out(publisher, engine.identity.instance)
            except JournalError as error:  # any process hands the events off later
                logger.error("%s", error)
            self._kept.clear()
            engine.publish_by(publisher)

    def _take_out(self, publisher: EventPublisher, instance: str) -> None:
        outbox = self._outbox
        if not self._kept:
            return
        with outbox.hold() as is_ours:
            waiting = outbox.waiting(dict.fromkeys(self._registration.kept(), ""), MOST_TAKEN) if is_ours() else []
            taken: list[str] = []
            refused: list[str] = []

            def answered(id: str, reply: AnyMessage) -> None:
                (taken if isinstance(reply, Accepted) else refused).append(id)
                if len(taken) + len(refused) == len(waiting):  # a journal answers at once, an event backend later
                    outbox.delivered(taken)

            for event in waiting:
                fire = Fire(instance, event.api, event.event, 0.0, event.key, event.record, "journal")
                publisher.hand_off(fire, partial(answered, event.id))
            publisher.flush()

    def stop(self) -> None:
        """Cancel the timers, and log where the events are that this process stored but did not publish."""
        with self._engines.lock:
            timers = self._publishing, self._resuming
            self._publishing = self._resuming = None
            kept, self._kept = self._kept, Counter()
        for timer in timers:
            if timer is not None:
                timer.cancel()
        if kept:
            logger.warning(
                "Nobody publishes %s at the moment. %d events wait on this host, in %s: once there is a publisher, any "
                "process of the bus '%s' on this host hands them over",
                ", ".join(sorted(kept)), kept.total(), self._outbox.path, self._engines.engine.identity.bus,
            )  # fmt: skip

    def abandon(self) -> None:
        """Forget, in a forked child, the parent's timers and counts."""
        self._publishing = self._resuming = None
        self._kept = Counter()

    # Publishing what an earlier process of the service left

    def _resume(self, engine: Engine) -> None:
        """Start the timer for publishing what earlier processes left, if anything. Called when the engine is made."""
        if self._workers.worker is not None or not self._registration.kept():
            return
        if self._outbox.exists() or engine.journals.is_left():
            self._resuming = _later(PUBLISH_AFTER, self._publish_what_is_left)

    def _publish_what_is_left(self) -> None:
        with contextlib.suppress(LightbusException):  # closed meanwhile, or a file is unreadable, which firing reports
            engine, names = self._engines.engine, self._registration.kept()
            waiting = {*names}.intersection(self._outbox.counts()) if self._outbox.exists() else set()
            is_left = engine.journals.is_left()
            if not waiting and not is_left:
                return
            missing = engine.questions.wait_for_blocking(names, Deadline.after(engine.config.discovery.wait))
            peers = [peer for name in names for peer in engine.snapshot.by_api.get(name, ())]
            if any(peer.announcement.service == engine.identity.service for peer in peers):
                return  # that peer adopts the journals left behind, and is handed the outbox's events
            if is_left or not waiting.isdisjoint(missing):
                self._publish_now()

    def is_known(self, api_name: str, name: str) -> bool:
        """Return whether an event of an API not registered here is in a loaded schema, or was seen by this host."""
        if (api_name, name) in self._registration.schema.events:
            return True
        return self._outbox.exists() and name in self._outbox.seen(api_name)

    def note_seen(self, message: EventMessage) -> None:
        """Record that the event exists, so that it can be stored while it has no publisher."""
        name = (message.api_name, message.event_name)
        if name not in self._seen and self._registration.apis.find(message.api_name) is None:
            self._seen.add(name)
            try:
                self._outbox.note_seen(*name)
            except JournalError as error:  # the event itself was accepted
                logger.debug("The event %s could not be recorded as known: %s", message.canonical_name, error)

    @property
    def _outbox(self) -> EventOutbox:
        return self._engines.engine.outbox


def _later(seconds: float, function: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    interruptible(timer.start)
    return timer
