"""Journals and outbox events left on this host by ended processes of other services: any worker here serves them.

A job that registers its API, fires and ends may be the only process of its service that ever runs here. Its events wait
in a journal or in the outbox, and no process of the service serves them. So a worker of another service does: it does
not know their API, accepts no new events of it, and uses the groups stored in that service's journals. If a worker of
that service runs on this host, that worker serves them instead.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from functools import partial
from typing import Protocol

from ...adapters.sqlite.journal import Journal, NewEvent
from ...adapters.sqlite.topic import Topic
from ...core.partitions import partition_of
from ...ports.outbox import EventOutbox, Waiting
from ...wire.envelope import PARTITIONS
from .journal_maintenance import InThread
from .journal_set import JournalSet

__all__ = ["OrphanedJournals"]

logger = logging.getLogger("lightbus.outbox")

WAIT = 2.0
"""Seconds for which events stay in the outbox first: a process of their own service may be about to publish them."""

RESTART = 10.0
"""
Seconds for which a service whose process has left counts as being here: a restarted process is to continue the journal.
It makes a new one if another process has the old one, and nothing orders the events of two journals.
"""

FIRST_LOOK = RESTART
"""
Seconds after the start until the first search. A process that has just started knows neither the peers of this host nor
what has left before: if the host was started again, the processes of other services may be about to start, too.
"""

AT_A_TIME = 500


class Serving(Protocol):
    """Serves journals: the coordinator. Only used from its loop."""

    def journal_added(self, journal: Journal) -> None:
        """Serve one more journal."""

    def journal_removed(self, journal: Journal) -> None:
        """Stop serving a journal."""

    def journal_grew(self, journal: Journal) -> None:
        """Inform members of events that were stored in a journal without being published live."""

    def has_unhandled(self, journal: Journal) -> bool:
        """Return whether any group has events left to handle in a journal."""


class OrphanedJournals:
    """
    Adopts and gives back such journals. On the node's loop; files are accessed in threads.

    Args:
        journals: opens and closes the journals.
        coordinator: serves the journals.
        outbox: the outbox of this host.
        services: returns the services that have a worker on this host.
        published: returns the APIs that have a publisher.
        on_changed: called when the result of `apis` has changed.

    """

    def __init__(
        self,
        journals: JournalSet,
        coordinator: Serving,
        outbox: EventOutbox,
        *,
        services: Callable[[], Iterable[str]],
        published: Callable[[], Container[str]],
        on_changed: Callable[[], None],
    ) -> None:
        self._journals = journals
        self._coordinator = coordinator
        self._services = services
        self._published = published
        self._on_changed = on_changed
        self._outbox = outbox
        self._empty_state: object = None
        self._waits_since: dict[str, float] = {}
        """By API: since when its events have been in the outbox without a publisher."""
        self._left_at: dict[str, float] = {}
        """By service: when its latest process left this host, if that was recently."""
        self._begin_at = time.monotonic() + FIRST_LOOK
        self._turn = 0
        self._kept: object = None

    def process_left(self, service: str) -> None:
        """Record that a process of a service on this host is gone: another one may be about to take its place."""
        self._left_at[service] = time.monotonic()

    async def look(self, in_thread: InThread) -> None:
        """Adopt journals without a process; give back those whose service has a worker again. Raises JournalError."""
        now = time.monotonic()
        if now < self._begin_at:
            return
        self._left_at = {service: at for service, at in self._left_at.items() if now - at < RESTART}
        running = frozenset(self._services())
        for journal in self._journals.others():
            if self._journals.service_of(journal) in running and not self._coordinator.has_unhandled(journal):
                self._coordinator.journal_removed(journal)
                await in_thread(partial(self._journals.give_back, journal))
        here = running.union(self._left_at)
        for journal in await in_thread(partial(self._journals.adopt_others, here)):
            self._coordinator.journal_added(journal)
        await self._empty_outbox(in_thread, here)
        kept = self.apis()
        if kept != self._kept:
            self._kept = kept
            self._on_changed()

    def apis(self) -> dict[str, tuple[str, ...]]:
        """Return the APIs with events in adopted journals of other services, each with the names of its events."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for journal in self._journals.others():
            for topic in journal.topics.all():
                found[topic.api].add(topic.declared_event)
        return {api: tuple(sorted(events)) for api, events in found.items()}

    async def _empty_outbox(self, in_thread: InThread, here: Container[str]) -> None:
        state = self._outbox.state()
        if state is None or state == self._empty_state:
            return
        waiting: dict[str, str] = await in_thread(self._outbox.services)
        if not waiting:
            self._empty_state = state  # of before it was read: an event may have been put into it since
        now, published = time.monotonic(), self._published()
        alone = {api: service for api, service in waiting.items() if service not in here and api not in published}
        self._waits_since = {api: self._waits_since.get(api, now) for api in alone}
        by_service: defaultdict[str, list[str]] = defaultdict(list)
        for api, service in alone.items():
            if now - self._waits_since[api] >= WAIT:
                by_service[service].append(api)
        for service, apis in by_service.items():
            await self._take_out(in_thread, service, apis)

    async def _take_out(self, in_thread: InThread, service: str, apis: list[str]) -> None:
        """Move the events of a service from the outbox into one of its journals, and serve that."""
        before = {journal.id for journal in self._journals.others()}
        journal: Journal = await in_thread(partial(self._journals.journal_of, service))
        if journal.id not in before:
            self._coordinator.journal_added(journal)
        moved: int = await in_thread(partial(self._move, journal, apis))
        if moved:
            logger.info("%d events of %s that waited in the outbox are published here", moved, ", ".join(apis))
            self._coordinator.journal_grew(journal)

    def _move(self, journal: Journal, apis: list[str]) -> int:
        count = 0
        with self._outbox.hold() as is_ours:
            while is_ours() and (waiting := self._outbox.waiting(dict.fromkeys(apis, ""), AT_A_TIME)):
                # Stored by id: if this process is killed before `delivered`, they are not stored a second time.
                journal.retry_while_locked(partial(journal.append, [self._stored(event) for event in waiting]))
                self._outbox.delivered([event.id for event in waiting])
                count += len(waiting)
        return count

    def _stored(self, event: Waiting) -> NewEvent:
        if event.key is None:
            self._turn += 1
        partition = self._turn % PARTITIONS if event.key is None else partition_of(event.key, PARTITIONS)
        return NewEvent(Topic(event.api, event.event, partition), event.record, time.time(), id=event.id)
