"""
Events: where those of an API are kept and how its groups come by them, whatever keeps them.

The built-in way, `journal`, is the bus's own: every publisher keeps what it publishes, and its peers follow it. An
`EventBackend` keeps the events of an API in one place instead, which outlives whoever published them. It stores,
numbers and hands out; what is done with an event is not known here. Retries and their pauses, dead-letter policy,
hooks, casting and validation are the listener's, and the same wherever an event came from.

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
    An event that is to be kept.

    Attributes:
        api, topic: what it is.
        id: the same wherever it is stored again; an event that is stored already is not stored a second time.
        record: its content. Not looked into by a backend.
        published_at: when it was fired, in seconds since 1970.

    """

    api: str
    topic: EventTopic
    id: str
    record: bytes
    published_at: float


class KeptEvent(NamedTuple):
    """An event as it is handed out: its number, and its content."""

    sequence: int
    record: bytes


class StoredEvent(NamedTuple):
    """An event as it is looked up."""

    sequence: int
    topic: EventTopic
    record: bytes
    published_at: float


class EventPage(NamedTuple):
    """
    A part of a topic.

    Attributes:
        events: the next ones, in order.
        through: everything up to this sequence is in it, or is none of this group's.
        lost: how many before it were deleted before the group could have them; each is reported once.

    """

    events: Sequence[KeptEvent]
    through: int
    lost: int = 0


class TopicState(NamedTuple):
    """
    How a topic stands for a group.

    Attributes:
        cursor: everything up to this sequence is handled.
        head: the newest sequence.
        begun: up to this one somebody may have begun events, and have been lost over one of them: what `begin` recorded
            and nobody acknowledged, and what a member was given that is gone, or closed without being done. Each of
            these is begun with `begin`; others are handled without.

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
        api, events: the wanted events; the event `"*"` means all of the API.
        group: whose members share the events between them; empty for a listener that is given all, while it listens.
        member: the instance that asks.
        since: where a group begins that is new: behind the event of this id, at a time, with all that is kept (`"0"`),
            or with the next event (`"$"`, None).

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
        api, name, events: what it is.
        members: per instance the partitions that it has.
        lag: how many events it has not handled.
        dead, lost: how many are dead letters, and how many were deleted before it could have them.

    """

    api: str
    name: str
    events: tuple[str, ...]
    members: Mapping[InstanceId, Sequence[int]] = field(default_factory=dict)
    lag: int = 0
    dead: int = 0
    lost: int = 0


class DeadLetter(NamedTuple):
    """An event that a group is not given any more, and why."""

    group: str
    event: StoredEvent
    deliveries: int
    error: str
    died_at: float


class EventInbox(Protocol):
    """The receiver of a subscription. Called on the loop of the backend; does not block."""

    def follow(self, states: Sequence[TopicState]) -> None:
        """
        Say how topics stand whose partitions are the subscriber's, or that there is more of them.

        Each topic is told once at least that has anything behind its cursor, and from then on whenever its head moves.
        Whose head is told, of all others that are the subscriber's it is told by then, too, what came before that.
        """

    def revoke(self, partitions: frozenset[int]) -> None:
        """Revoke partitions: none of their events is begun, and `release` is called once those in progress are done."""


class EventSubscription(Protocol):
    """
    One listener's place in its group, or outside of any.

    A partition is in one member's hands at a time. Of one that is not the caller's (any more), nothing is recorded.
    Methods raise EventBackendError where the backend cannot be reached; they are called again then.
    """

    async def fetch(self, topic: EventTopic, after: int, limit: int) -> EventPage:
        """Return the events after a sequence, at most so many. Repeated, it returns the same again."""

    async def ack(self, handled: Mapping[EventTopic, int]) -> None:
        """Record that topics are handled up to these sequences; return when that would survive us."""

    async def begin(self, topic: EventTopic, sequence: int, at_least: int) -> int:
        """
        Record that an event is about to be handled, the `at_least`th time or more, before that happens.

        Return which delivery of it to the group that is; 0 where it is not the caller's.
        """

    async def dead_letter(self, topic: EventTopic, sequence: int, deliveries: int, error: str) -> bool:
        """Store an event as a dead letter with its error; return whether it is. It is acknowledged separately."""

    async def release(self, partitions: frozenset[int]) -> None:
        """Give back partitions that were revoked: what was at hand of them is done, and acknowledged."""

    async def close(self, *, is_done: bool = True) -> None:
        """Leave the group. Where it is not `is_done`, events may have been begun that were not acknowledged."""


class EventBackend(Protocol):
    """
    Keeps the events of some APIs.

    Methods raise EventBackendUnreachable where it cannot be reached at the moment, or does not answer, and
    EventBackendError where it does and will not; with the remedy in the text.

    `history`, `dead_letters` and `retry_dead` name events by their sequences; on the bus an event's native id is
    `<store>-<sequence>`.
    """

    def store(self, api: str) -> str:
        """Return 16 hexadecimal digits that name where an API's events are: the same in all processes that share it."""

    async def start(self) -> None:
        """Connect, or begin to: a backend that is not there yet is no error here. Called once, before the others."""

    async def stop(self) -> None:
        """Leave nothing running. Takes a few seconds at most."""

    async def publish(self, events: Sequence[OutgoingEvent]) -> Sequence[int | EventBackendError]:
        """
        Keep events, in this order, and return what became of each: its sequence, or why it is not kept.

        Behind one of an API that is EventBackendUnreachable there is none of that API that is kept: they are all
        published again later, in the same order.
        """

    async def subscribe(self, request: SubscriptionRequest, inbox: EventInbox) -> EventSubscription:
        """Join a group, which is made where there is none; return when nothing is missed that is fired from now on."""

    async def when_handled(self, api: str, sequence: int) -> None:
        """Return when every group that is owed an event has handled it, or has it among its dead letters."""

    async def groups(self, api: str) -> Sequence[GroupSummary]:
        """Return the groups of an API."""

    async def remove_group(self, api: str, group: str) -> bool:
        """Forget a group; return whether there was one. Members that it has join a new one of this name."""

    async def lag(self, api: str, group: str) -> int | None:
        """Return how many events a group has not handled; None where there is no such group."""

    async def history(
        self, api: str, event: str, *, start: float | None, stop: float | None, limit: int
    ) -> Sequence[StoredEvent]:
        """Return the newest events between two times, in order; the event `"*"` means every one of the API."""

    async def page(self, api: str, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return the stored events of an API after a sequence, at most so many, in order."""

    async def count(self, api: str) -> int:
        """Return how many events of an API are kept, about."""

    async def status(self, api: str, sequence: int) -> Mapping[str, str]:
        """Return what became of an event, per group that is owed it: `waiting`, `acked` or `dead`; none if not kept."""

    async def dead_letters(self, api: str, group: str = "") -> Sequence[DeadLetter]:
        """Return the events of an API that a group (empty: any) is not given any more, in order."""

    async def retry_dead(self, api: str, group: str, sequence: int) -> bool:
        """Give a dead letter to its group again, and to no other; return whether there is such a one."""

    async def drop_dead(self, api: str, group: str, sequence: int) -> bool:
        """Forget a dead letter; return whether there was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendContext:
    """
    The bus that a backend is made for.

    Attributes:
        bus: the bus; those of one name share events.
        instance: the process.
        options: what else `apis.<name>.events` says.

    """

    bus: str
    instance: InstanceId
    options: Mapping[str, Any] = field(default_factory=dict)


EventBackendFactory: TypeAlias = Callable[[BackendContext], EventBackend]
"""Makes a backend: one for each loop that a process is on. What an entry point `lightbus_event_backends` names."""
