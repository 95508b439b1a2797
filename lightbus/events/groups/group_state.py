"""One consumer group as a publisher knows it: its events, its position, and its connected members."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...adapters.host.machine_time import machine_time
from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.topic import Topic
from ...core.cursors import Cursors
from ...core.groups import Group as Membership
from ...wire.event_names import declared_event, only_group_of
from .group_records import MAX_AGE, age_of

__all__ = ["MARGIN", "GroupState", "MemberConnection", "Moment", "created_of", "times_of"]

MARGIN = 0.5
"""
Seconds before its creation from which a group gets events, if its creation was read from another host's clock: the
network and the difference of the clocks make it uncertain, and too many events are better than too few.
"""

MAX_WAY = 60.0
"""Longest time in seconds between sending and receiving a message on one host; more means that the clock was set."""


class Moment(float):
    """A moment of the machine's time (`machine_time`). Other numbers are wall-clock times, in seconds since 1970."""


@dataclass(slots=True)
class MemberConnection:
    """A member's connection, and the last message to it."""

    routing_id: bytes
    presence: bytes
    digest: str
    max_message_size: int
    """The largest message, in bytes, that the member takes."""
    generation: int = 0
    events: list[str] = field(default_factory=list)


@dataclass(slots=True)
class GroupState:
    """A group at its publisher. Only touched from the node's loop."""

    info: KnownGroup
    membership: Membership
    cursors: dict[str, Cursors[Topic]] = field(default_factory=dict)
    """The positions, by journal."""
    connections: dict[str, MemberConnection] = field(default_factory=dict)
    """The connected members."""
    saved_at: float = 0.0
    acks: int = 0
    """The number of acknowledgements; if it stays the same while events wait, the group is stuck."""
    _names: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())
    """`info.events`, and the same names as a set: each fired event is looked up among what may be thousands."""
    is_estimated: bool = False
    """Whether its creation was read from another host's clock."""
    has_own_start: bool = False
    """Whether its starting point was given by its listener (`since`), and is not its creation."""
    given_since: Moment | None = None
    """The moment from which on it has all events, if that is later than `owed_since`; None if nothing is missing."""

    @property
    def is_mixed(self) -> bool:
        """Whether different programs are members of it, each of which gets a part of the events."""
        return len({connection.digest for connection in self.connections.values()}) > 1

    @property
    def owed_since(self) -> Moment:
        """The moment from which on it must get events."""
        return Moment(self.info.created_at - (MARGIN if self.is_estimated else 0.0))

    @property
    def created_at(self) -> Moment:
        """When it was created."""
        return Moment(self.info.created_at)

    @property
    def info_to_store(self) -> KnownGroup:
        """The group as it is stored in journals: created when the events began that it has completely."""
        return self.info if self.given_since is None else self.info._replace(created_at=float(self.given_since))

    def has_handled(self, journal: str, topic: Topic, sequence: int) -> bool:
        """Return whether everything up to a sequence was acknowledged."""
        cursors = self.cursors.get(journal)
        return cursors is not None and cursors.acked.get(topic, 0) >= sequence

    def gets(self, event: str) -> bool:
        """Return whether the group listens to an event of its API; or to an event stored again, that it is for it."""
        only_group = only_group_of(event)
        if only_group:
            event = declared_event(event)
        events, names = self._names
        if events is not self.info.events:
            names = frozenset(self.info.events)
            self._names = self.info.events, names
        return (event in names or "*" in names) and only_group in ("", self.info.name)


def times_of(info: KnownGroup) -> tuple[float, float]:
    """Return when a group was created, and the present time, in seconds since 1970 by our present clock."""
    clock = time.time()
    return clock - min(machine_time() - info.created_at, MAX_AGE), clock


def created_of(created_at: float, clock: float, *, is_near: bool) -> float:
    """
    Return the moment of this machine at which a group was created, from a report of another process.

    Only the age by that process's clock is used; on the same host (`is_near`), also the time that the message took. So
    the result does not depend on what the wall clocks show, nor on when they are set.
    """
    age = age_of(created_at, clock)
    way = time.time() - clock if is_near else 0.0
    return machine_time() - age - (way if 0.0 < way < MAX_WAY else 0.0)
