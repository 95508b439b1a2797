"""
Moving the events of an API: from the journals into a backend, and back.

Events that every group has handled are moved as the past: for reading, and for groups that ask for it (`since`).
What a group is owed is moved for that group alone. So each group is given what it had not handled, and nothing twice,
from however many journals its events come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .events import DeadLetter, EventBackend, EventTopic, StoredEvent

__all__ = ["BackendMove", "MovableBackend", "MovedDeadLetter", "MovedEvent", "MovedGroup", "StandingGroup"]


class MovedEvent(NamedTuple):
    """An event on its way into a backend: its number at its source, and what it is."""

    sequence: int
    id: str
    topic: EventTopic
    record: bytes
    published_at: float


class MovedGroup(NamedTuple):
    """A group on its way into a backend; it was made so many seconds after 1970."""

    name: str
    events: tuple[str, ...]
    created_at: float


class MovedDeadLetter(NamedTuple):
    """A dead letter on its way into a backend."""

    group: str
    event: MovedEvent
    deliveries: int
    error: str
    died_at: float


class StandingGroup(NamedTuple):
    """
    A group as it stands at a backend.

    Attributes:
        name, events: what it is.
        created_at: when it was made, in seconds since 1970.
        start: where it has begun.
        cursors: up to where it has handled topics; `start` for those that are not in it.
        deliveries: how often it was given events that it has not handled yet.

    """

    name: str
    events: tuple[str, ...]
    created_at: float
    start: int
    cursors: Mapping[EventTopic, int]
    deliveries: Mapping[tuple[EventTopic, int], int]

    def has_handled(self, topic: EventTopic, sequence: int) -> bool:
        """Return whether an event is behind it."""
        return sequence <= self.cursors.get(topic, self.start)


class BackendMove(Protocol):
    """
    One API of a backend, to be moved into or out of. Methods raise EventBackendError.

    A source is named, and its events are stored once, however often they are put.
    """

    async def resume(self, source: str) -> Mapping[str, Any]:
        """Return what was noted of a source last, and know what came of it since; nothing where it is new."""

    async def note(self, source: str, progress: Mapping[str, Any]) -> None:
        """Record how far a source was moved."""

    async def finish(self, source: str) -> None:
        """Forget a source that was moved."""

    async def put(self, source: str, events: Sequence[MovedEvent], group: str = "") -> Sequence[int]:
        """Keep events as the past, or for one group alone; return where each is."""

    async def add_group(self, group: MovedGroup) -> None:
        """Create a group, for the events that are put for it."""

    async def add_deliveries(self, group: str, deliveries: Mapping[tuple[EventTopic, int], int]) -> None:
        """Record how often a group was given events before."""

    async def mark_begun(self, group: str, partitions: Sequence[int]) -> None:
        """Record that a member may have begun events of these partitions that the group has not handled."""

    async def add_dead_letters(self, source: str, letters: Sequence[MovedDeadLetter]) -> None:
        """Keep dead letters."""

    async def members(self) -> Sequence[str]:
        """Return the instances that listen there, after a look of some seconds where there may be any."""

    async def groups(self) -> Sequence[StandingGroup]:
        """Return the groups."""

    async def read(self, after: int, limit: int) -> tuple[Sequence[tuple[StoredEvent, str | None]], int]:
        """Return the events after a sequence, each with the only group it is for (None: it is past), and how far."""

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Return the dead letters."""

    async def head(self) -> int:
        """Return the newest sequence."""

    async def clear(self, through: int) -> None:
        """Delete all groups, and the events up to a sequence."""


@runtime_checkable
class MovableBackend(EventBackend, Protocol):
    """A backend whose events can be moved: not every one has to be."""

    def move(self, api: str) -> BackendMove:
        """Return what moves the events of an API."""
