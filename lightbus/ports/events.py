"""
Events: storing the events of an API and delivering them to its groups, by any backend.

The built-in backend, `journal`, is the bus's own: every publisher stores its events, and its peers follow them. An
`EventBackend` stores the events of an API in one place instead, which outlives their publishers. It stores, numbers and
delivers events, and does not know what is done with them. Retries and their pauses, dead-letter policy, hooks, casting
and validation belong to the listener, and are the same for all backends.

All calls of one object come from one event loop, and it calls back there. Every implementation passes
`tests/ports/test_event_backends.py` and `tests/ports/test_events.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..exceptions import EventBackendError, EventBackendUnreachable
from ..typing import InstanceId

__all__ = [
    "BackendContext",
    "DeadLetter",
    "EventBackend",
    "EventBackendError",
    "EventBackendFactory",
    "EventBackendUnreachable",
    "EventInbox",
    "EventPage",
    "EventSubscription",
    "EventTopic",
    "GroupSummary",
    "KeptEvent",
    "OutgoingEvent",
    "StoredEvent",
    "SubscriptionRequest",
    "TopicState",
]


class EventTopic(NamedTuple):
    """The unit of order within an API: the events of one name in one of the partitions (`wire.envelope.PARTITIONS`)."""

    event: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """
    An event to store.

    Attributes:
        api, topic: its API and topic.
        id: its id, equal when it is stored again; an event whose id is stored already is not stored a second time.
        record: its content, which a backend does not decode.
        published_at: when it was fired, in seconds since 1970.

    """

    api: str
    topic: EventTopic
    id: str
    record: bytes
    published_at: float


class KeptEvent(NamedTuple):
    """An event as it is delivered: its sequence, and its content."""

    sequence: int
    record: bytes


class StoredEvent(NamedTuple):
    """An event as the history, a page or a dead letter has it."""

    sequence: int
    topic: EventTopic
    record: bytes
    published_at: float


class EventPage(NamedTuple):
    """
    A part of a topic.

    Attributes:
        events: the next ones, in order.
        through: all events of the group up to this sequence are in this page or before it.
        lost: how many events before it were deleted before the group got them; each is reported once.

    """

    events: Sequence[KeptEvent]
    through: int
    lost: int = 0


class TopicState(NamedTuple):
    """
    The state of a topic for a group.

    Attributes:
        cursor: all events up to this sequence are handled.
        head: the newest sequence.
        begun: events up to this sequence may have been started by a member that was lost: events that `begin` recorded
            and nobody acknowledged, and events delivered to a member that is gone, or was closed without being done.
            Each of these is started with `begin`; others are handled without.

    """

    topic: EventTopic
    cursor: int
    head: int
    begun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRequest:
    """
    A request for a subscription.

    Attributes:
        api, events: the wanted events; the event `"*"` means all of the API. A group gets those of its latest request.
        group: the group, whose members share the events; empty for a listener that gets all events while it listens.
        member: the instance that subscribes.
        since: where a new group starts: after the event with this id, at a time, with all kept events (`"0"`), or with
            the next event (`"$"`, None). If no event with the id is stored, log that, and start with the next event. An
            existing group continues where it is.

    """

    api: str
    events: tuple[str, ...]
    group: str
    member: InstanceId
    since: str | datetime | None = None

    def wants(self, event: str) -> bool:
        """Return whether an event of the API is wanted."""
        return event in self.events or "*" in self.events


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """
    A group, for display.

    Attributes:
        api, name, events: its API, its name, and the events that it handles.
        members: for each instance, the partitions that it holds.
        lag: the number of events that it has not handled.
        dead, lost: the number of its dead letters, and of events deleted before it got them.

    """

    api: str
    name: str
    events: tuple[str, ...]
    members: Mapping[InstanceId, Sequence[int]] = field(default_factory=dict)
    lag: int = 0
    dead: int = 0
    lost: int = 0


class DeadLetter(NamedTuple):
    """An event that is no longer delivered to a group, and the reason."""

    group: str
    event: StoredEvent
    deliveries: int
    error: str
    died_at: float


class EventInbox(Protocol):
    """The receiver of a subscription: does not block. Called on the backend's loop, also before `subscribe` returns."""

    def follow(self, states: Sequence[TopicState]) -> None:
        """
        Report the states of topics in the subscriber's partitions: new ones, and those with new events.

        Each topic with events after its cursor is reported at least once, and then whenever its head moves. When a head
        is reported, all other topics of the subscriber must be reported up to their events before that head.
        """

    def revoke(self, partitions: frozenset[int]) -> None:
        """Revoke partitions: start none of their events, and call `release` once those in progress are done."""


class EventSubscription(Protocol):
    """
    The subscription of one listener, in its group or without one.

    One member at a time holds a partition. For a partition that the caller does not hold (any more), nothing is
    recorded. Methods raise EventBackendUnreachable or EventBackendError as those of the backend do; after either they
    are called again.
    """

    async def fetch(self, topic: EventTopic, after: int, limit: int) -> EventPage:
        """Return the next events after a sequence, `limit` at most. A repeated call repeats them, and may add some."""

    async def ack(self, handled: Mapping[EventTopic, int]) -> None:
        """Record that topics are handled up to these sequences; return once that survives the end of this process."""

    async def begin(self, topic: EventTopic, sequence: int, at_least: int) -> int:
        """
        Record that an event is about to be handled, before that happens.

        Return the number of this delivery to the group, which is `at_least` this; 0 if the caller does not hold the
        partition, or the group was removed and has begun anew since the event was delivered.
        """

    async def dead_letter(self, topic: EventTopic, sequence: int, deliveries: int, error: str) -> bool:
        """
        Store an event as a dead letter with its error; the ack comes separately.

        Return False if the event is not stored any more, the caller does not hold its partition, or the group was
        removed and has begun anew since the event was delivered.
        """

    async def release(self, partitions: frozenset[int]) -> None:
        """Release revoked partitions: their events in progress are done, and acknowledged."""

    async def close(self, *, is_done: bool = True) -> None:
        """Leave the group. If not `is_done`, events may have been started and not acknowledged."""


class EventBackend(Protocol):
    """
    Stores the events of some APIs.

    Methods raise EventBackendUnreachable if it cannot be reached at the moment, or does not answer, and
    EventBackendError if it refuses; with the remedy in the text.

    `history`, `dead_letters` and `retry_dead` name events by their sequences; on the bus an event's native id is
    `<store>-<sequence>`.
    """

    def store(self, api: str) -> str:
        """Return the name of an API's store, 16 hexadecimal digits: equal in all processes that share the store."""

    async def start(self) -> None:
        """
        Start to connect: an unreachable backend is no error here. Called once, before all other methods.

        If it raises, or is cancelled, `stop` is called, which closes what was opened so far.
        """

    async def stop(self) -> None:
        """Stop all tasks, and disconnect. Takes a few seconds at most."""

    async def publish(self, events: Sequence[OutgoingEvent]) -> Sequence[int | EventBackendError]:
        """
        Store events in this order, and return for each its sequence, or the error because of which it is not stored.

        After an EventBackendUnreachable no further event of that API is stored: these events are all published again
        later, in the same order.
        """

    async def subscribe(self, request: SubscriptionRequest, inbox: EventInbox) -> EventSubscription:
        """Join a group, created if there is none; return once no event fired from now on can be missed."""

    async def when_handled(self, api: str, sequence: int) -> None:
        """Return once every group that gets an event has handled it, or has it among its dead letters."""

    async def groups(self, api: str) -> Sequence[GroupSummary]:
        """Return the groups of an API."""

    async def remove_group(self, api: str, group: str) -> bool:
        """Remove a group; return whether it existed. Its present members join a new one of this name."""

    async def lag(self, api: str, group: str) -> int | None:
        """Return how many events a group has not handled; None if there is no such group."""

    async def history(
        self, api: str, event: str, *, start: float | None, stop: float | None, limit: int
    ) -> Sequence[StoredEvent]:
        """Return the newest events between two times, in order; the event `"*"` means all events of the API."""

    async def page(self, api: str, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return at most `limit` stored events of an API after a sequence, in order."""

    async def count(self, api: str) -> int:
        """Return about how many events of an API are stored."""

    async def status(self, api: str, sequence: int) -> Mapping[str, str]:
        """Return the status of an event in each group that gets it: `waiting`, `acked`, `dead`; none if not stored."""

    async def dead_letters(self, api: str, group: str = "") -> Sequence[DeadLetter]:
        """Return the dead letters of an API in a group (empty: in any), in order."""

    async def retry_dead(self, api: str, group: str, sequence: int) -> bool:
        """
        Deliver a dead letter again to its group, and to no other; return whether that was done.

        It is not if it is gone. It stays if its group was removed, or listens to other events now: nobody would get it.
        """

    async def drop_dead(self, api: str, group: str, sequence: int) -> bool:
        """Delete a dead letter; return whether it existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendContext:
    """
    The bus that a backend is made for.

    Attributes:
        bus: the name of the bus; buses of one name share events.
        instance: the instance id of the process.
        options: the other settings in `apis.<name>.events`.

    """

    bus: str
    instance: InstanceId
    options: Mapping[str, Any] = field(default_factory=dict)


EventBackendFactory: TypeAlias = Callable[[BackendContext], EventBackend]
"""Makes a backend: one for each event loop of a process. An entry point `lightbus_event_backends` names it."""
