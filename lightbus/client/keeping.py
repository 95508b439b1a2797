"""What becomes of an event that nobody is there to publish: it is kept on disk here, until somebody is.

A process that has registered the API writes a journal of its service, and publishes it if it lives on. Any other
process puts the event into the outbox, which every process of this bus and user on this host empties when a publisher
is there.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, cast

from ..core.partitions import partition_of
from ..exceptions import JournalError, NotReachable
from ..io.journal import NewEvent, Topic
from ..io.outbox import Outbox
from ..message import EventMessage
from ..runtime.publishing import key_of, native_id, record_of
from ..runtime.shelf import directory_of
from ..service.api import Event
from ..wire.envelope import PARTITIONS
from .core import ClientCore

if TYPE_CHECKING:
    from .life import Life

__all__ = ["Keeping"]

logger = logging.getLogger("lightbus.client")

PUBLISH_AFTER = 0.5
"""Seconds after which a process that keeps events of its own publishes them: a short script has ended by then."""


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
        elif event is not None:
            self._keep_in_journal(message, event)
        else:
            self._keep_in_outbox(message)

    def _keep_in_journal(self, message: EventMessage, event: Event) -> None:
        key = key_of(event, message.kwargs)
        partition = partition_of(message.id if key is None else key, PARTITIONS)
        topic = Topic(message.api_name, message.event_name, partition)
        shelf = self.engine.shelf
        [stored] = shelf.own().append([NewEvent(topic, record_of(message), message.published_at)])
        message.native_id = native_id(shelf.own().id, stored.sequence)
        message.publisher = self.engine.identity.instance
        with self._lock:
            if self._publishing is None and self._worker is None and not self._closed:
                self._publishing = threading.Timer(PUBLISH_AFTER, cast("Life", self).start_publishing)
                self._publishing.daemon = True
                self._publishing.start()

    def _keep_in_outbox(self, message: EventMessage) -> None:
        self._open_outbox().put(
            id=message.id, api=message.api_name, event=message.event_name, key=None, record=record_of(message)
        )
        logger.warning(
            "Nobody publishes %s at the moment: the event %s waits on this host, and is handed over by any process of "
            "the bus '%s' that runs here when somebody does",
            message.canonical_name,
            message.id,
            self.engine.identity.bus,
        )

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
