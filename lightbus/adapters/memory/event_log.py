"""The events of one API in memory: numbered, by topic, up to a bound. Used with the owner's lock held."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ...ports.events import EventTopic, OutgoingEvent, StoredEvent

__all__ = ["EventLog", "LoggedEvent"]

_sequence = attrgetter("sequence")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event, and the only group that it is for, if it is not for all groups."""

    sequence: int
    topic: EventTopic
    id: str
    record: bytes
    published_at: float
    only_group: str | None = None

    def is_for(self, group: str) -> bool:
        """Return whether a group gets the event; a listener without a group never gets an event for a single group."""
        return self.only_group in (None, group or None)

    @property
    def stored(self) -> StoredEvent:
        """The event as the port `EventBackend` returns it."""
        return StoredEvent(self.sequence, self.topic, self.record, self.published_at)


class EventLog:
    """
    The events of one API, in order.

    Args:
        max_events: the most events to keep; beyond these the oldest are deleted.

    """

    def __init__(self, max_events: int) -> None:
        self.head = 0
        self._max_events = max_events
        self._events: list[LoggedEvent] = []
        self._topics: defaultdict[EventTopic, list[LoggedEvent]] = defaultdict(list)
        self._by_id: dict[str, int] = {}

    def append(self, event: OutgoingEvent, only_group: str | None = None) -> int:
        """Store an event, unless its id is stored already; return its sequence."""
        id = event.id if only_group is None else f"{event.id} for {only_group}"
        known = self._by_id.get(id)
        if known is not None:
            return known
        self.head += 1
        logged = LoggedEvent(self.head, event.topic, id, event.record, event.published_at, only_group)
        self._events.append(logged)
        self._topics[event.topic].append(logged)
        self._by_id[id] = self.head
        return self.head

    def trim(self) -> Sequence[LoggedEvent]:
        """Delete events beyond the bound and return them. This waits for 10 % too many, since it moves all others."""
        if len(self._events) <= self._max_events + self._max_events // 10:
            return ()
        gone, self._events = self._events[: -self._max_events], self._events[-self._max_events :]
        for event in gone:
            del self._by_id[event.id]
        for topic in {event.topic for event in gone}:
            self._topics[topic] = self.behind(topic, gone[-1].sequence)
        return gone

    @property
    def topics(self) -> Sequence[EventTopic]:
        """The topics that have events."""
        return [topic for topic, events in self._topics.items() if events]

    def head_of(self, topic: EventTopic) -> int:
        """Return the newest sequence of a topic."""
        events = self._topics.get(topic)
        return events[-1].sequence if events else 0

    def behind(self, topic: EventTopic, sequence: int) -> list[LoggedEvent]:
        """Return the events of a topic after a sequence."""
        events = self._topics.get(topic, [])
        return events[bisect.bisect_right(events, sequence, key=_sequence) :]

    def all_behind(self, sequence: int, limit: int) -> list[LoggedEvent]:
        """Return the next events of all topics after a sequence, without those for a single group."""
        place = bisect.bisect_right(self._events, sequence, key=_sequence)
        behind = (event for event in itertools.islice(self._events, place, None) if event.only_group is None)
        return [*itertools.islice(behind, limit)]

    @property
    def size(self) -> int:
        """The number of events."""
        return len(self._events)

    def find(self, sequence: int) -> LoggedEvent | None:
        """Return the event with this sequence, or None."""
        place = bisect.bisect_left(self._events, sequence, key=_sequence)
        found = self._events[place] if place < len(self._events) else None
        return found if found is not None and found.sequence == sequence else None

    def place_of(self, id: str) -> int | None:
        """Return the sequence of an event by its id."""
        return self._by_id.get(id)

    def newest_first(self) -> Iterator[LoggedEvent]:
        """Yield all events, the newest first."""
        return reversed(self._events)

    def before(self, moment: float) -> int:
        """Return the sequence after which events were fired at this time or later."""
        place = next((event.sequence for event in self._events if event.published_at >= moment), self.head + 1)
        return place - 1
