"""One peer as this process knows it: its state, and the facts passed on about it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from ..typing import InstanceId
from ..wire.announcement import Announcement

__all__ = ["Fact", "Peer", "PeerJoined", "PeerLeft", "PeerState", "PeerUpdated", "Snapshot", "Source"]


class Source(Enum):
    """How a peer was discovered."""

    DISCOVERY = "discovery"
    CLAIM = "claim"
    """The peer sent HELLO to us."""
    HEARSAY = "hearsay"
    """Another peer has verified this peer."""
    SEED = "seed"
    """The peer answered at an address in the settings."""


class PeerState(Enum):
    """How certain it is that a peer is alive."""

    UNVERIFIED = "unverified"
    UP = "up"
    DRAINING = "draining"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    """The peer does not accept our key, or has another one."""

    @property
    def shown(self) -> str:
        """The state in texts for people and in lists: whoever has never answered is unverified."""
        return "unverified" if self is PeerState.QUARANTINED else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    One process that announced itself.

    Attributes:
        announcement: its announcement; complete (`apis` set) once it has answered.
        state: how certain it is that it is alive.
        source: how it was first discovered, or that it sent HELLO itself.
        endpoint, event_endpoint: its endpoints, once it has answered; empty before.
        changed_at: when `state` last changed, in seconds of the registry's clock.
        failures: failed attempts to reach it, in a row.
        unsteady: how many connections to it ended almost at once, in a row.
        refused: how many of the latest attempts were refused: nothing listened at its address.
        retry_at: when to connect to it again.
        problem: the result of the latest failed attempt, the end of a sentence about it; empty if there is none.
        elsewhere: further addresses that were announced while there was a connection to it.

    """

    announcement: Announcement
    state: PeerState
    source: Source
    changed_at: float
    endpoint: str = ""
    event_endpoint: str = ""
    failures: int = 0
    unsteady: int = 0
    refused: int = 0
    retry_at: float = 0.0
    problem: str = ""
    elsewhere: tuple[str, ...] = ()

    @property
    def instance(self) -> InstanceId:
        """Its instance id."""
        return self.announcement.instance

    @property
    def is_up(self) -> bool:
        """Whether calls may be sent to it."""
        return self.state is PeerState.UP

    @property
    def is_live(self) -> bool:
        """Whether there is a connection to it: it is up, or draining."""
        return self.state in (PeerState.UP, PeerState.DRAINING)

    def advertises(self, api: str) -> bool | None:
        """Return whether it advertises an API, and not only stores old events of it; None while that is unknown."""
        names = self.announcement.api_names
        if names is None:
            return None
        return api in names and api not in self.keeps

    def serves(self, api: str) -> bool:
        """Return whether it serves, or may serve, procedures of an API: some peers only publish its events."""
        infos = self.announcement.apis
        return infos is None or any(info.procedures for info in infos if info.name == api)

    @property
    def keeps(self) -> frozenset[str]:
        """The APIs of which it only stores events of ended processes, if known."""
        return frozenset(api.name for api in self.announcement.apis or () if api.keeps)

    def __str__(self) -> str:
        return f"{self.announcement} ({self.state.shown}{self.problem and f': {self.problem}'})"


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A peer answered and is up."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerUpdated:
    """A live peer has changed its announcement, or is draining (also if it was when it was found)."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """A peer is no longer live: `reason` is the end of a sentence that begins with its name."""

    peer: Peer
    reason: str


Fact: TypeAlias = PeerJoined | PeerUpdated | PeerLeft


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A view of the registry for channels: immutable and replaced as a whole, so any thread may read it."""

    peers: Mapping[InstanceId, Peer] = field(default_factory=dict)
    by_api: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """The peers that are up, by the API that they advertise."""
    serving: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """Those of `by_api` that serve procedures: the others only publish events."""
    mixed: frozenset[str] = frozenset()
    """The APIs of which these peers serve different versions."""
    keeping: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """The peers that are up and only store events of an API that ended processes left behind."""
    announced: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """The peers that are not up, by the API that they are announced with."""
    events: frozenset[tuple[str, str]] = frozenset()
    """`(API, event)` of all events that peers which are up publish."""
    departed: frozenset[InstanceId] = frozenset()
    """Instances that recently said goodbye; the connection to all other unknown ones was lost."""

    def is_up(self, instance: InstanceId) -> bool:
        """Return whether a peer is up or draining."""
        peer = self.peers.get(instance)
        return peer is not None and peer.is_live

    def publishers(self, api: str) -> tuple[Peer, ...]:
        """Return the peers that are up and have events of an API: they advertise it, or store old events of it."""
        return (*self.by_api.get(api, ()), *self.keeping.get(api, ()))

    def api_names(self) -> list[str]:
        """Return the public APIs that peers which are up advertise."""
        return sorted(name for name in self.by_api if not name.startswith("internal."))
