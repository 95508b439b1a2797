"""One peer as this process knows it: how far it is trusted, and the facts passed on about it. Values only."""

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
    """It sent HELLO, and introduced itself."""
    HEARSAY = "hearsay"
    """Another peer has verified it."""
    SEED = "seed"
    """It answered at an address that the settings name."""


class PeerState(Enum):
    """How certain it is that a peer is there."""

    UNVERIFIED = "unverified"
    UP = "up"
    DRAINING = "draining"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    """It does not accept our key, or has another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    One process that announced itself.

    Attributes:
        announcement: what it says of itself; complete (`apis` set) once it has answered.
        state: how far we trust it.
        source: how it was discovered first, or that it introduced itself.
        endpoint, event_endpoint: where it answered; empty before.
        changed_at: when `state` last changed, in seconds of the registry's clock.
        heard_at: when it last answered, or was last announced.
        failures: attempts to reach it that failed, in a row.
        refused: how many of the last of these were refused: nothing listened at its address.
        retry_at: when it may be dialled again.
        problem: what came of the latest attempt, the end of a sentence about it; empty while there is none.
        elsewhere: where it was announced while there was a connection to it, beside where it says it is.

    """

    announcement: Announcement
    state: PeerState
    source: Source
    changed_at: float
    heard_at: float
    endpoint: str = ""
    event_endpoint: str = ""
    failures: int = 0
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
        """Whether there is a connection to it: it is up, or finishes its work."""
        return self.state in (PeerState.UP, PeerState.DRAINING)

    def advertises(self, api: str) -> bool | None:
        """Return whether it advertises an API, and does not only store events of it; None while that is unknown."""
        names = self.announcement.api_names
        if names is None:
            return None
        return api in names and api not in self.keeps

    def serves(self, api: str) -> bool:
        """Return whether it serves procedures of an API, or may: others that advertise it only publish its events."""
        infos = self.announcement.apis
        return infos is None or any(info.procedures for info in infos if info.name == api)

    @property
    def keeps(self) -> frozenset[str]:
        """The APIs of which it only stores events of ended processes, as far as that is known."""
        return frozenset(api.name for api in self.announcement.apis or () if api.keeps)

    def __str__(self) -> str:
        return f"{self.announcement} ({self.state.value}{self.problem and f': {self.problem}'})"


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A peer answered and is up."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerUpdated:
    """A peer that is live says something new of itself, or drains now (also one that did when it was found)."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """A peer is no longer live: `reason` is the end of a sentence that begins with its name."""

    peer: Peer
    reason: str


Fact: TypeAlias = PeerJoined | PeerUpdated | PeerLeft


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the channels see of the registry: never changed, replaced as a whole, so any thread may read it."""

    peers: Mapping[InstanceId, Peer] = field(default_factory=dict)
    by_api: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """Peers that are up, per API they advertise."""
    serving: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """Those of them that serve procedures of it: others only publish its events."""
    mixed: frozenset[str] = frozenset()
    """The APIs of which they do not all serve the same version."""
    keeping: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """Peers that are up and only keep events of an API that ended processes of its service left behind."""
    announced: Mapping[str, tuple[Peer, ...]] = field(default_factory=dict)
    """Peers that are not up, per API they are announced with."""
    events: frozenset[tuple[str, str]] = frozenset()
    """`(API, event)` of everything that peers which are up publish."""
    departed: frozenset[InstanceId] = frozenset()
    """Instances that shut down lately and said so; of others that are not known any more the connection was lost."""

    def is_up(self, instance: InstanceId) -> bool:
        """Return whether a peer is (still) up or finishing its work."""
        peer = self.peers.get(instance)
        return peer is not None and peer.is_live

    def publishers(self, api: str) -> tuple[Peer, ...]:
        """Return the peers that are up and have events of an API: those that advertise it, and those that keep some."""
        return (*self.by_api.get(api, ()), *self.keeping.get(api, ()))

    def api_names(self) -> list[str]:
        """Return the public APIs that peers which are up advertise."""
        return sorted(name for name in self.by_api if not name.startswith("internal."))
