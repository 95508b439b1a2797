"""What becomes of an event that nobody is there to publish: it is kept on disk here, until somebody is.

It goes into the outbox of this host, which every process of this bus and user here empties when a publisher is there,
of whatever service that is. A process that has registered the API becomes that publisher itself, if it lives on; and
so it does when it is started again and its service, or the outbox, has something left of it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from ..adapters.sqlite.outbox import Outbox
from ..deadline import Deadline
from ..engine.engine import Engine
from ..events.journal_set import directory_of
from ..events.publisher import Publisher, key_of, record_of
from ..exceptions import JournalError, LightbusException, NotReachable
from ..message import EventMessage
from ..service.api import Event
from ..wire.envelope import Accepted, Fire, Message
from .engine_holder import ClientCore

if TYPE_CHECKING:
    from .lifecycle import Life

__all__ = ["Keeping"]

logger = logging.getLogger("lightbus.client")

PUBLISH_AFTER = 0.5
"""Seconds after which a process that keeps events of its own publishes them: a short script has ended by then."""

MOST_TAKEN = 1000
"""Events that a process takes from the outbox at once when it becomes their publisher; others are handed off to it."""


class Keeping(ClientCore):
    """The part of the client that keeps what cannot be published now."""

    def _keep(self, message: EventMessage, event: Event | None, wait_for: str, error: NotReachable) -> None:
        """
        Keep an event that nobody publishes. Of best effort it is dropped and counted: that is no error.

        Raises `error` where it cannot be kept: its event was never heard of, or somebody waits for the groups to
        handle it. JournalError where it cannot be stored.
        """
        if event is not None and event.delivery == "best_effort":
            self.dropped_events += 1
            logger.debug("%r was dropped: %s", message, error)
        elif wait_for == "ack" or (event is None and not self._is_known(message.api_name, message.event_name)):
            raise error
        else:
            self._keep_in_outbox(message, event)

    def _keep_in_outbox(self, message: EventMessage, event: Event | None) -> None:
        outbox, record = self._open_outbox(), record_of(message)
        with self._lock:
            publisher = self.engine.publisher
            if publisher is not None and event is not None:  # it has become one just now: see take_over
                publisher.publish(message, event)
                return
            key = key_of(event, message.kwargs)
            service = "" if event is None else self.engine.identity.service
            api, name = message.api_name, message.event_name
            outbox.put(id=message.id, api=api, event=name, key=key, record=record, service=service)
            if event is not None:
                self._kept[message.api_name] += 1
                self._publish_soon()
                return
        logger.warning(
            "Nobody publishes %s at the moment: the event %s waits on this host, and is handed over by any process of "
            "the bus '%s' that runs here when somebody does",
            message.canonical_name,
            message.id,
            self.engine.identity.bus,
        )

    def _publish_soon(self) -> None:
        """Publish what is kept here, unless this process ends before. With the lock held."""
        if self._publishing is None and self._worker is None and not self._closed:
            self._publishing = _later(PUBLISH_AFTER, cast("Life", self).start_publishing)

    def take_over(self, publisher: Publisher) -> None:
        """
        Become the publisher of what this process fires, beginning with what waits of it in the outbox.

        On the node's loop. So one key's events stay in order: nothing is put in between, nor published before.
        """
        engine = self.engine
        with self._lock:
            try:
                self._take_out(publisher, engine.identity.instance)
            except JournalError as error:  # it is handed off later, as any process does
                logger.error("%s", error)
            self._kept.clear()
            engine.publisher = publisher

    def _take_out(self, publisher: Publisher, instance: str) -> None:
        outbox = self._open_outbox()
        if not self._kept:
            return
        with outbox.hold() as is_ours:
            waiting = outbox.waiting(dict.fromkeys(_published(self), ""), MOST_TAKEN) if is_ours() else []
            taken: list[str] = []
            for event in waiting:
                fire = Fire(instance, event.api, event.event, 0.0, event.key, event.record, "journal")
                publisher.hand_off(fire, partial(_note_taken, taken, event.id))
            publisher.flush()
            outbox.delivered(taken)

    def _say_what_waits(self) -> None:
        """Say at the end where the events are that this process kept and did not come to publish."""
        with self._lock:
            kept, self._kept = self._kept, Counter()
        if kept:
            logger.warning(
                "Nobody publishes %s at the moment: %d events wait on this host, in %s, and are handed over by any "
                "process of the bus '%s' that runs here when somebody does",
                ", ".join(sorted(kept)), kept.total(), self._open_outbox().path, self.engine.identity.bus,
            )  # fmt: skip

    # Going on where an earlier process of the service was ended

    def _go_on(self, engine: Engine) -> None:
        """Publish again, unless this process ends before, where something is left to be published. At first use."""
        if self._worker is None and _published(self) and (Outbox.exists(engine.shelf.path) or engine.shelf.is_left()):
            self._going_on = _later(PUBLISH_AFTER, self._publish_what_is_left)

    def _publish_what_is_left(self) -> None:
        with contextlib.suppress(LightbusException):  # closed meanwhile, or what cannot be read: firing says so
            engine, names = self.engine, _published(self)
            waiting = names.keys() & self._open_outbox().counts() if Outbox.exists(engine.shelf.path) else set()
            is_left = engine.shelf.is_left()
            if not waiting and not is_left:
                return
            missing = engine.questions.wait_for_blocking(list(names), Deadline.after(self.config.discovery.wait))
            peers = [peer for name in names for peer in engine.snapshot.by_api.get(name, ())]
            if any(peer.announcement.service == engine.identity.service for peer in peers):
                return  # it adopts what is left, and is handed what waits
            if is_left or not waiting.isdisjoint(missing):
                cast("Life", self).start_publishing()

    def _is_known(self, api_name: str, name: str) -> bool:
        """Return whether an event of an API that is not registered here exists, as far as this host has ever seen."""
        if (api_name, name) in self.schema.events:
            return True
        path = directory_of(self.config, self.engine.identity.bus)
        return Outbox.exists(path) and name in self._open_outbox().seen(api_name)

    def _note_seen(self, message: EventMessage) -> None:
        """Remember that there is such an event: then it can be kept when nobody is there to publish it."""
        name = (message.api_name, message.event_name)
        if name not in self._seen and self.api_registry.find(message.api_name) is None:
            self._seen.add(name)
            try:
                self._open_outbox().note_seen(*name)
            except JournalError as error:  # the event itself was taken
                logger.debug("It is not remembered that there is an event %s: %s", message.canonical_name, error)

    def _open_outbox(self) -> Outbox:
        with self._lock:
            if self._outbox is None:
                self._outbox = Outbox(directory_of(self.config, self.engine.identity.bus))
            return self._outbox


def _published(client: ClientCore) -> dict[str, None]:
    """Return the APIs registered here that have events which are kept."""
    apis = client.api_registry.all()
    return {
        api.meta.name: None for api in apis if any(event.delivery != "best_effort" for event in api.events.values())
    }


def _note_taken(taken: list[str], id: str, reply: Message) -> None:
    if isinstance(reply, Accepted):
        taken.append(id)


def _later(seconds: float, function: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer
