"""A backend in memory that events are moved into and out of, and that becomes unreachable on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightbus.exceptions import EventBackendUnreachable
from lightbus.ports.events import DeadLetter, EventTopic, StoredEvent
from lightbus.ports.moving import MovedDeadLetter, MovedEvent, MovedGroup, StandingGroup

__all__ = ["MemoryMove", "OnceAway"]


class OnceAway:
    """Fails at one of the steps: before it is done, or after it."""

    def __init__(self) -> None:
        self.steps = 0
        self.fails_at = -1

    def step(self) -> None:
        """Count as one step."""
        self.steps += 1
        if self.steps == self.fails_at:
            raise EventBackendUnreachable("the backend went away")


class MemoryMove:
    """The contract of `BackendMove`. Each method is two steps: a failed one may have been done all the same."""

    def __init__(self, away: OnceAway) -> None:
        self.away = away
        self.noted: dict[str, Mapping[str, Any]] = {}
        self.events: list[tuple[StoredEvent, str | None]] = []
        self.standing: dict[str, StandingGroup] = {}
        self.added: dict[str, MovedGroup] = {}
        self.deliveries: dict[tuple[str, EventTopic, int], int] = {}
        self.begun: dict[str, set[int]] = {}
        self.dead: dict[tuple[str, int], DeadLetter] = {}
        self._places: dict[tuple[str, int, str | None], int] = {}

    async def resume(self, source: str) -> Mapping[str, Any]:
        """Return the recorded state."""
        self.away.step()
        return dict(self.noted.get(source, {}))

    async def note(self, source: str, progress: Mapping[str, Any]) -> None:
        """Record it."""
        self.away.step()
        self.noted[source] = dict(progress)
        self.away.step()

    async def finish(self, source: str) -> None:
        """Delete the state."""
        self.away.step()
        self.noted.pop(source, None)
        self.away.step()

    def keep(self, event: MovedEvent, only: str | None) -> int:
        """Store an event, and return its place."""
        sequence = len(self.events) + 1
        self.events.append((StoredEvent(sequence, event.topic, event.record, event.published_at), only))
        return sequence

    async def put(self, source: str, events: Sequence[MovedEvent], group: str = "") -> Sequence[int]:
        """Store events, each once."""
        places = []
        for event in events:
            self.away.step()
            place = source, event.sequence, group
            if place not in self._places:
                self._places[place] = self.keep(event, group or None)
            places.append(self._places[place])
            self.away.step()
        return places

    async def add_group(self, group: MovedGroup) -> None:
        """Add it."""
        self.away.step()
        self.added.setdefault(group.name, group)

    async def add_deliveries(self, group: str, deliveries: Mapping[tuple[EventTopic, int], int]) -> None:
        """Record them."""
        self.deliveries.update({(group, *which): number for which, number in deliveries.items()})

    async def mark_begun(self, group: str, partitions: Sequence[int]) -> None:
        """Record them."""
        self.begun.setdefault(group, set()).update(partitions)

    async def add_dead_letters(self, source: str, letters: Sequence[MovedDeadLetter]) -> None:
        """Store them, each once."""
        for letter in letters:
            self.away.step()
            event = StoredEvent(
                letter.event.sequence, letter.event.topic, letter.event.record, letter.event.published_at
            )
            which = letter.group, letter.event.sequence
            self.dead[which] = DeadLetter(letter.group, event, letter.deliveries, letter.error, letter.died_at)

    async def members(self) -> Sequence[str]:
        """Return no members."""
        return []

    async def groups(self) -> Sequence[StandingGroup]:
        """Return them."""
        self.away.step()
        return list(self.standing.values())

    async def read(self, after: int, limit: int) -> tuple[Sequence[tuple[StoredEvent, str | None]], int]:
        """Return the next ones, three at a time at most."""
        self.away.step()
        found = [each for each in self.events if each[0].sequence > after][: min(limit, 3)]
        return found, found[-1][0].sequence if found else await self.head()

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Return them."""
        return list(self.dead.values())

    async def head(self) -> int:
        """Return the newest sequence."""
        return self.events[-1][0].sequence if self.events else 0

    async def clear(self, through: int) -> None:
        """Delete it."""
        self.away.step()
        self.events = [each for each in self.events if each[0].sequence > through]
        self.away.step()
        self.standing.clear()
        self.dead.clear()
        self.away.step()
