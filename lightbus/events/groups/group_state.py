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
Seconds by which a group is owed more than it was created ago where that was read from another host's clock: what the
network and the clocks' difference leave uncertain shall be too many events rather than too few.
"""

MAX_WAY = 60.0
"""Seconds that a message may have been on its way from a sender with our clock: more means that the clock was set."""


class Moment(float):
    """A moment of the machine's time (`machine_time`); a time that is none is one of day, in seconds since 1970."""


@dataclass(slots=True)
class MemberConnection:
    """A member's connection, and the last message to it."""

    routing_id: bytes
    presence: bytes
    digest: str
    max_message_size: int
    """Bytes that it takes."""
    generation: int = 0
    events: list[str] = field(default_factory=list)


@dataclass(slots=True)
class GroupState:
    """What a publisher knows of a group. Only touched from the node's loop."""

    info: KnownGroup
    membership: Membership
    cursors: dict[str, Cursors[Topic]] = field(default_factory=dict)
    """By journal."""
    connections: dict[str, MemberConnection] = field(default_factory=dict)
    """By member."""
    saved_at: float = 0.0
    acks: int = 0
    """How many acknowledgements it has sent: if that stays the same while events wait, it is stuck."""
    _names: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())
    """The names of `info.events`, and the same to look one up among thousands: each event that is fired asks for it."""
    is_estimated: bool = False
    """Whether its creation was read from another host's clock."""
    has_own_start: bool = False
    """Whether it began where its listener wanted (`since`), and not with its creation."""
    given_since: Moment | None = None
    """Since when it has all that it is owed, where that is later than `owed_since`; None: it has all."""

    @property
    def is_mixed(self) -> bool:
        """Whether different programs are members of it: each of them is given a part of the events."""
        return len({connection.digest for connection in self.connections.values()}) > 1

    @property
    def owed_since(self) -> Moment:
        """Since when it is owed events."""
        return Moment(self.info.created_at - (MARGIN if self.is_estimated else 0.0))

    @property
    def created_at(self) -> Moment:
        """When it was created."""
        return Moment(self.info.created_at)

    @property
    def info_to_store(self) -> KnownGroup:
        """The group as the journals are to know it: as old only as it has been given everything."""
        return self.info if self.given_since is None else self.info._replace(created_at=float(self.given_since))

    def has_handled(self, journal: str, topic: Topic, sequence: int) -> bool:
        """Return whether everything up to a sequence was acknowledged."""
        cursors = self.cursors.get(journal)
        return cursors is not None and cursors.acked.get(topic, 0) >= sequence

    def is_owed(self, event: str) -> bool:
        """Return whether the group listens to an event of its API, or is to be given it again on its own."""
        only_group = only_group_of(event)
        if only_group:
            event = declared_event(event)
        events, names = self._names
        if events is not self.info.events:
            names = frozenset(self.info.events)
            self._names = self.info.events, names
        return (event in names or "*" in names) and only_group in ("", self.info.name)


def times_of(info: KnownGroup) -> tuple[float, float]:
    """Return when a group was created and what time it is, in seconds since 1970, as our clock counts them now."""
    clock = time.time()
    return clock - min(machine_time() - info.created_at, MAX_AGE), clock


def created_of(created_at: float, clock: float, *, is_near: bool) -> float:
    """
    Return the moment of this machine at which a group was created, from a report of its age.

    Only what that clock has counted meanwhile is believed, and on the same host (`is_near`) for how long the message
    was on its way: whatever the time of day is, and whenever it is put right.
    """
    age = age_of(created_at, clock)
    way = time.time() - clock if is_near else 0.0
    return machine_time() - age - (way if 0.0 < way < MAX_WAY else 0.0)
