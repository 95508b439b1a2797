"""
Moving the events of an API: from the journals into a backend, and back.

Events that every group has handled are moved as past events: for reading, and for groups that ask for them (`since`).
Unhandled events of a group are moved for that group alone. So each group gets the events that it had not handled, and
none twice, from any number of journals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .events import DeadLetter, EventBackend, EventTopic, StoredEvent

__all__ = ["BackendMove", "MovableBackend", "MovedDeadLetter", "MovedEvent", "MovedGroup", "StandingGroup"]


class MovedEvent(NamedTuple):
    """An event that is moved into a backend, with its sequence at its source."""

    sequence: int
    id: str
    topic: EventTopic
    record: bytes
    published_at: float


class MovedGroup(NamedTuple):
    """A group that is moved into a backend; `created_at` is in seconds since 1970."""

    name: str
    events: tuple[str, ...]
    created_at: float


class MovedDeadLetter(NamedTuple):
    """A dead letter that is moved into a backend."""

    group: str
    event: MovedEvent
    deliveries: int
    error: str
    died_at: float


class StandingGroup(NamedTuple):
    """
    The state of a group at a backend.

    Attributes:
        name, events: its name, and the events that it handles.
        created_at: when it was created, in seconds since 1970.
        start: the sequence after which it started.
        cursors: the sequences up to which it has handled topics; `start` for other topics.
        deliveries: delivery counts of events that it has not handled yet.

    """

    name: str
    events: tuple[str, ...]
    created_at: float
    start: int
    cursors: Mapping[EventTopic, int]
    deliveries: Mapping[tuple[EventTopic, int], int]

    def has_handled(self, topic: EventTopic, sequence: int) -> bool:
        """Return whether the group has handled an event."""
        return sequence <= self.cursors.get(topic, self.start)


class BackendMove(Protocol):
    """
    One API of a backend whose events are moved in or out. Methods raise EventBackendError.

    A source has a name, and its events are stored once, however often they are put.
    """

    async def resume(self, source: str) -> Mapping[str, Any]:
        """Return the recorded progress of a source, empty if it is new; later `put`s skip events stored since then."""

    async def note(self, source: str, progress: Mapping[str, Any]) -> None:
        """Record the progress of a source."""

    async def finish(self, source: str) -> None:
        """Delete the progress of a source that is moved completely."""

    async def put(self, source: str, events: Sequence[MovedEvent], group: str = "") -> Sequence[int]:
        """Store events as past ones, or for a single group; return their sequences."""

    async def add_group(self, group: MovedGroup) -> None:
        """Create a group, for the events that are put for it."""

    async def add_deliveries(self, group: str, deliveries: Mapping[tuple[EventTopic, int], int]) -> None:
        """Record how often events were delivered to a group before."""

    async def mark_begun(self, group: str, partitions: Sequence[int]) -> None:
        """Record that a member may have started unhandled events of these partitions."""

    async def add_dead_letters(self, source: str, letters: Sequence[MovedDeadLetter]) -> None:
        """Store dead letters."""

    async def members(self) -> Sequence[str]:
        """Return the instances that listen to the API; if there may be any, this takes some seconds."""

    async def groups(self) -> Sequence[StandingGroup]:
        """Return the groups."""

    async def read(self, after: int, limit: int) -> tuple[Sequence[tuple[StoredEvent, str | None]], int]:
        """Return events after a sequence, each with its only group (None: past), and the last sequence covered."""

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Return the dead letters."""

    async def head(self) -> int:
        """Return the newest sequence."""

    async def clear(self, through: int) -> None:
        """Delete all groups, and the events up to a sequence."""


@runtime_checkable
class MovableBackend(EventBackend, Protocol):
    """A backend whose events can be moved; this is optional."""

    def move(self, api: str) -> BackendMove:
        """Return the object that moves the events of an API."""
