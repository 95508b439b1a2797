"""An event backend in the memory of one process: for tests, and for programs that store nothing on disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from weakref import WeakValueDictionary

from ...exceptions import EventBackendError, InvalidConfiguration
from ...phrases import hint_of_listener
from ...ports.events import (
    BackendContext,
    DeadLetter,
    EventInbox,
    EventPage,
    EventTopic,
    GroupSummary,
    KeptEvent,
    OutgoingEvent,
    StoredEvent,
    SubscriptionRequest,
    TopicState,
)
from .event_group import EventGroup
from .event_log import EventLog, LoggedEvent

__all__ = ["MAX_EVENTS", "MemoryEventBackend", "MemoryEventStore"]

logger = logging.getLogger("lightbus.events")

MAX_EVENTS = 100_000
"""Events kept for an API if the setting `max_events` is not given; the oldest are deleted first."""

_stores: WeakValueDictionary[str, MemoryEventStore] = WeakValueDictionary()
_stores_lock = threading.Lock()


class MemoryEventStore:
    """
    The events that all backends of one bus in this process share. Any thread may use it, with its `lock` held.

    Args:
        name: the name of the bus.
        max_events: the most events of an API.

    """

    def __init__(self, name: str, max_events: int = MAX_EVENTS) -> None:
        self.lock = threading.RLock()
        self.name = name
        self.max_events = max_events
        self.groups: defaultdict[str, dict[str, EventGroup]] = defaultdict(dict)
        """For each API, the groups by name; a listener without a group is under a key of its own."""
        self._logs: dict[str, EventLog] = {}
        self._waiters: defaultdict[str, list[tuple[LoggedEvent, Callable[[], None]]]] = defaultdict(list)

    @classmethod
    def of_bus(cls, bus: str, max_events: int = MAX_EVENTS) -> MemoryEventStore:
        """Return the store of a bus in this process; it exists as long as it is referred to."""
        with _stores_lock:
            store = _stores.get(bus)
            if store is None:
                store = _stores[bus] = cls(bus, max_events)
            return store

    def log(self, api: str) -> EventLog:
        """Return the events of an API."""
        return self._logs.setdefault(api, EventLog(self.max_events))

    def append(self, events: Sequence[OutgoingEvent], only_group: str | None = None) -> list[int]:
        """Store events, and notify their followers; return their sequences."""
        stored = []
        for event in events:
            log = self.log(event.api)
            before = log.head
            stored.append(log.append(event, only_group))
            if log.head > before:
                for group in self.groups[event.api].values():
                    group.notify_new_events(event.topic)
        for api in {event.api for event in events}:
            self._trim(api)
        return stored

    def _trim(self, api: str) -> None:
        for event in self.log(api).trim():
            for group in self.groups[api].values():
                group.deleted(event)

    def join(self, request: SubscriptionRequest) -> EventGroup:
        """Return the group of a request, created if it is new."""
        name = request.group or f"\0{request.member}\0{id(request)}"
        group = self.groups[request.api].get(name)
        if group is None:
            log = self.log(request.api)
            group = self.groups[request.api][name] = EventGroup(request, log, _start(log, request))
        return group

    def forget(self, group: EventGroup) -> None:
        """Remove the group of a listener without a group."""
        groups = self.groups[group.request.api]
        for name in [name for name, other in groups.items() if other is group]:
            del groups[name]

    def moved(self, api: str) -> None:
        """Check whether awaited events are handled now: cursors have moved."""
        waiters = self._waiters.pop(api, [])
        for event, done in waiters:
            if self._is_handled(api, event):
                done()
            else:
                self._waiters[api].append((event, done))

    def when_handled(self, api: str, sequence: int, done: Callable[[], None]) -> None:
        """Call `done` once all groups have handled an event."""
        event = self.log(api).find(sequence)
        if event is None or self._is_handled(api, event):
            done()
        else:
            self._waiters[api].append((event, done))

    def waits_no_more(self, api: str, done: Callable[[], None]) -> None:
        """Forget `done`, if it still waits."""
        self._waiters[api] = [waiter for waiter in self._waiters[api] if waiter[1] is not done]

    def _is_handled(self, api: str, event: LoggedEvent) -> bool:
        return all(not group.name or group.is_done_with(event) for group in self.groups[api].values())


def _start(log: EventLog, request: SubscriptionRequest) -> int:
    since = request.since
    if since is None or since == "$":
        return log.head
    if since == "0":
        return 0
    if isinstance(since, datetime):
        return log.before(since.timestamp())
    found = log.place_of(since)
    if found is None:
        logger.warning(
            "A listener asks for the events of %s since %s, and that event is not stored: its group begins with the "
            "next one. Use since='0' for all stored events", request.api, since,
        )  # fmt: skip
        return log.head
    return found


class MemoryEventBackend:
    """Events in this process's memory; they are gone when the last bus that uses them is closed."""

    def __init__(self, context: BackendContext) -> None:
        options = dict(context.options)
        max_events = options.pop("max_events", MAX_EVENTS)
        if options:
            first = next(iter(options))
            raise InvalidConfiguration(
                f"apis.<name>.events.{first} is not a setting of the backend memory."
                f"{hint_of_listener(first) or ' There is: max_events'}"
            )
        if type(max_events) is not int or max_events < 1:
            raise InvalidConfiguration(
                f"apis.<name>.events.max_events is {max_events!r:.100}. It is a whole number above 0."
            )
        self._memory = MemoryEventStore.of_bus(context.bus, max_events)
        self._subscriptions: list[MemorySubscription] = []

    def store(self, api: str) -> str:
        """Return the name of an API's store."""
        return blake2b(f"memory\0{self._memory.name}\0{api}".encode(), digest_size=8).hexdigest()

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def stop(self) -> None:
        """Leave all groups."""
        for subscription in list(self._subscriptions):
            await subscription.close(is_done=False)

    async def publish(self, events: Sequence[OutgoingEvent]) -> Sequence[int | EventBackendError]:
        """Store events, and return their sequences."""
        with self._memory.lock:
            return self._memory.append(events)

    async def subscribe(self, request: SubscriptionRequest, inbox: EventInbox) -> MemorySubscription:
        """Join a group."""
        with self._memory.lock:
            group = self._memory.join(request)
            subscription = MemorySubscription(self._memory, group, request, inbox, self._subscriptions.remove)
            self._subscriptions.append(subscription)
            group.join(subscription.name, subscription, request)
        return subscription

    async def when_handled(self, api: str, sequence: int) -> None:
        """Wait until all groups have handled an event."""
        loop = asyncio.get_running_loop()
        handled = asyncio.Event()

        def done() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(handled.set)

        with self._memory.lock:
            self._memory.when_handled(api, sequence, done)
        try:
            await handled.wait()
        finally:  # also of a caller that has given up
            with self._memory.lock:
                self._memory.waits_no_more(api, done)

    async def groups(self, api: str) -> Sequence[GroupSummary]:
        """Return the groups of an API."""
        with self._memory.lock:
            return [group.state() for group in self._memory.groups[api].values() if group.name]

    async def remove_group(self, api: str, group: str) -> bool:
        """Remove a group; one that has members starts again with the next event. Return whether it existed."""
        with self._memory.lock:
            found = self._memory.groups[api].pop(group, None)
            if found is not None:
                found.forget(self._memory.log(api).head)
                if found.has_members:
                    self._memory.groups[api][group] = found
                self._memory.moved(api)
        return found is not None

    async def lag(self, api: str, group: str) -> int | None:
        """Return the number of unhandled events of a group; None if the group is unknown."""
        with self._memory.lock:
            found = self._memory.groups[api].get(group)
            return None if found is None else found.state().lag

    async def history(
        self, api: str, event: str, *, start: float | None, stop: float | None, limit: int
    ) -> Sequence[StoredEvent]:
        """Return the newest events between two times, in order."""
        found: list[StoredEvent] = []
        with self._memory.lock:
            for each in self._memory.log(api).newest_first():
                if len(found) == limit:
                    break
                is_within = (start is None or each.published_at >= start) and (
                    stop is None or each.published_at <= stop
                )
                if is_within and event in ("*", each.topic.event) and each.only_group is None:
                    found.append(each.stored)
        return found[::-1]

    async def page(self, api: str, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return the next events after a sequence."""
        with self._memory.lock:
            return [event.stored for event in self._memory.log(api).all_behind(after, limit)]

    async def count(self, api: str) -> int:
        """Return the number of kept events."""
        with self._memory.lock:
            return self._memory.log(api).size

    async def status(self, api: str, sequence: int) -> Mapping[str, str]:
        """Return the status of an event in each group that gets it."""
        with self._memory.lock:
            event = self._memory.log(api).find(sequence)
            groups = [group for group in self._memory.groups[api].values() if group.name]
            return {} if event is None else {each.name: each.status(event) for each in groups if each.wants(event)}

    async def dead_letters(self, api: str, group: str = "") -> Sequence[DeadLetter]:
        """Return the dead letters of an API."""
        with self._memory.lock:
            groups = [each for each in self._memory.groups[api].values() if group in ("", each.name)]
            dead = [letter for each in groups for letter in each.dead.values()]
        return sorted(dead, key=lambda letter: letter.event.sequence)

    async def retry_dead(self, api: str, group: str, sequence: int) -> bool:
        """Deliver a dead letter to its group again; return False if it is gone, or the group does not get it now."""
        with self._memory.lock:
            found = self._memory.groups[api].get(group)
            dead = None if found is None else found.dead.get(sequence)
            if found is None or dead is None or not found.request.wants(dead.event.topic.event):
                return False
            letter = self._take_dead(api, group, sequence)
            if letter is not None:
                stored = letter.event
                event = OutgoingEvent(
                    api=api,
                    topic=stored.topic,
                    id=f"{self.store(api)}-{sequence}",
                    record=stored.record,
                    published_at=stored.published_at,
                )
                self._memory.append([event], only_group=group)
        return letter is not None

    async def drop_dead(self, api: str, group: str, sequence: int) -> bool:
        """Delete a dead letter; return whether it existed."""
        with self._memory.lock:
            return self._take_dead(api, group, sequence) is not None

    def _take_dead(self, api: str, group: str, sequence: int) -> DeadLetter | None:
        found = self._memory.groups[api].get(group)
        return None if found is None else found.dead.pop(sequence, None)


class MemorySubscription:
    """One listener at the store. Methods are called on its own loop; `assigned` and `on_new_events` in any thread."""

    def __init__(
        self,
        store: MemoryEventStore,
        group: EventGroup,
        request: SubscriptionRequest,
        inbox: EventInbox,
        on_closed: Callable[[MemorySubscription], None],
    ) -> None:
        self.name = request.member
        self._store = store
        self._group = group
        self._inbox = inbox
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._partitions: frozenset[int] = frozenset()
        self._generation = 0
        self._news: set[EventTopic] = set()
        self._closed = False

    # Notifications, with the lock held

    def assigned(self, partitions: frozenset[int], generation: int) -> None:
        """Take over these partitions, and no others."""
        self._call(self._take_partitions, partitions, generation)

    def on_new_events(self, topic: EventTopic) -> None:
        """Record that a topic has new events; many of them are reported to the inbox once."""
        if not self._news:
            self._call(self._notify_new_events)
        self._news.add(topic)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed without `close`
            if not self._closed:
                self._closed = True
                self._group.leave(self.name, is_done=False)

    def _take_partitions(self, partitions: frozenset[int], generation: int) -> None:
        if self._closed:
            return
        before, self._partitions, self._generation = self._partitions, partitions, generation
        if gone := before - partitions:
            self._inbox.revoke(gone)
        with self._store.lock:
            # Include topics with unreported news: the inbox then knows all topics up to the newest event of any.
            news = [self._group.state_of(topic) for topic in self._news if topic.partition in partitions & before]
            states = [*self._group.states(partitions - before), *news]
        self._inbox.follow(states)

    def _notify_new_events(self) -> None:
        with self._store.lock:
            news, self._news = self._news, set()
            states: list[TopicState] = [
                self._group.state_of(topic) for topic in news if topic.partition in self._partitions
            ]
        if states and not self._closed:
            self._inbox.follow(states)

    # Requests

    async def fetch(self, topic: EventTopic, after: int, limit: int) -> EventPage:
        """Return the next events of a topic after a sequence."""
        with self._store.lock:
            if not self._has(topic):
                return EventPage((), after)
            found = self._group.waiting(topic, after, limit)
            through = found[-1].sequence if len(found) == limit else self._store.log(self._api).head_of(topic)
            lost = self._group.take_losses(topic)
        return EventPage([KeptEvent(event.sequence, event.record) for event in found], max(after, through), lost)

    async def ack(self, handled: Mapping[EventTopic, int]) -> None:
        """Record the cursors of topics."""
        with self._store.lock:
            for topic, sequence in handled.items():
                if self._has(topic):
                    self._group.ack(topic, sequence)
            self._store.moved(self._api)

    async def begin(self, topic: EventTopic, sequence: int, at_least: int) -> int:
        """Record a delivery of an event, and return its number; 0 if the partition is not ours any more."""
        with self._store.lock:
            is_ours = self._has(topic) and self._group.starts_before(sequence)
            return self._group.begin(topic, sequence, at_least) if is_ours else 0

    async def dead_letter(self, topic: EventTopic, sequence: int, deliveries: int, error: str) -> bool:
        """Record an event as a dead letter; return False if it is gone, or the partition is not ours any more."""
        with self._store.lock:
            event = self._store.log(self._api).find(sequence)
            group = self._group
            if event is None or not self._has(topic) or not group.starts_before(sequence):
                return False
            group.dead[sequence] = DeadLetter(group.name, event.stored, deliveries, error, time.time())
            return True

    async def release(self, partitions: frozenset[int]) -> None:
        """Release partitions."""
        with self._store.lock:
            self._group.release(self.name, self._generation, partitions)

    async def close(self, *, is_done: bool = True) -> None:
        """Leave the group."""
        with self._store.lock:
            if self._closed:
                return
            self._closed = True
            self._group.leave(self.name, is_done=is_done)
            if not self._group.name:
                self._store.forget(self._group)
        self._on_closed(self)

    @property
    def _api(self) -> str:
        return self._group.request.api

    def _has(self, topic: EventTopic) -> bool:
        return not self._closed and self._group.holds(self.name, self._generation, topic.partition)
