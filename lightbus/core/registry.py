"""The known peers. In: announcements, answers, losses. Out: which peers joined, changed and left.

An announcement is a hint: it makes us connect to a peer, and only a WELCOME with the announced instance id makes the
peer *up* (an mDNS record, RFC 6762, is no proof of life: after a crash it stays in caches for many minutes).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from enum import Enum
from types import MappingProxyType

from ..typing import InstanceId
from ..wire.announced_fields import MAX_ADDRESSES
from ..wire.announcement import Announcement
from .peers import Fact, Peer, PeerJoined, PeerLeft, PeerState, PeerUpdated, Snapshot, Source
from .versions import is_mixed

__all__ = [
    "STEADY",
    "Fact",
    "Peer",
    "PeerJoined",
    "PeerLeft",
    "PeerState",
    "PeerUpdated",
    "Registry",
    "Snapshot",
    "Source",
    "retry_delay",
]

MAX_PEERS = 1024
"""Most peers that are remembered: any host of the network can announce any number."""

FIRST_RETRY = 0.25
LONGEST_RETRY = 8.0
MAX_DOUBLINGS = 16
"""Enough for the longest pause, and few enough for a float: a peer may be away for months."""

STEADY = 1.0
"""
Seconds that a connection must last. If it ends earlier, again and again, the pauses grow as if the peer did not answer:
each time costs log lines here and messages to all connected processes.
"""

FORGET_AFTER = 1200.0
"""Seconds without an answer after which a candidate is forgotten: longer than any cache keeps an outdated record."""

MAX_REFUSED = 3
"""Refused connections in a row (nothing listens there) after which a candidate is forgotten at once."""

TOMBSTONES = 4096

MAX_DEPARTED = MAX_PEERS
"""Most instances whose goodbye is remembered, as many as may say it at once: each snapshot has them."""

CROWD = 16
"""Number of peers above which those that never answered are tried less often, the more there are."""

USUAL_ADDRESSES = 4
"""Usual maximum of a peer's addresses. One announced with more costs more to try, and is dropped first."""

_HINTS = (PeerState.REFUSED, PeerState.QUARANTINED, PeerState.UNVERIFIED)
"""States of peers that have not answered; when there are too many, those in the first are dropped first."""


class _Input(Enum):
    ANSWERED = "answered"
    DRAINS = "drains"
    LOST = "lost"
    SILENT = "silent"
    DENIED = "denied"


# The state after an input. A pair that is missing here cannot happen: it would be a bug of ours.
_TRANSITIONS: Mapping[tuple[PeerState, _Input], PeerState] = MappingProxyType(
    {
        (PeerState.UNVERIFIED, _Input.ANSWERED): PeerState.UP,
        (PeerState.UNVERIFIED, _Input.DRAINS): PeerState.DRAINING,
        (PeerState.UNVERIFIED, _Input.LOST): PeerState.QUARANTINED,
        (PeerState.UNVERIFIED, _Input.SILENT): PeerState.QUARANTINED,
        (PeerState.UNVERIFIED, _Input.DENIED): PeerState.REFUSED,
        (PeerState.QUARANTINED, _Input.ANSWERED): PeerState.UP,
        (PeerState.QUARANTINED, _Input.DRAINS): PeerState.DRAINING,
        (PeerState.QUARANTINED, _Input.LOST): PeerState.QUARANTINED,
        (PeerState.QUARANTINED, _Input.SILENT): PeerState.QUARANTINED,
        (PeerState.QUARANTINED, _Input.DENIED): PeerState.REFUSED,
        (PeerState.UP, _Input.ANSWERED): PeerState.UP,
        (PeerState.UP, _Input.DRAINS): PeerState.DRAINING,
        (PeerState.UP, _Input.LOST): PeerState.SUSPECT,
        (PeerState.UP, _Input.SILENT): PeerState.SUSPECT,
        (PeerState.UP, _Input.DENIED): PeerState.REFUSED,
        (PeerState.DRAINING, _Input.ANSWERED): PeerState.DRAINING,
        (PeerState.DRAINING, _Input.DRAINS): PeerState.DRAINING,
        (PeerState.DRAINING, _Input.LOST): PeerState.SUSPECT,
        (PeerState.DRAINING, _Input.SILENT): PeerState.SUSPECT,
        (PeerState.DRAINING, _Input.DENIED): PeerState.REFUSED,
        (PeerState.SUSPECT, _Input.ANSWERED): PeerState.UP,
        (PeerState.SUSPECT, _Input.DRAINS): PeerState.DRAINING,
        (PeerState.SUSPECT, _Input.LOST): PeerState.SUSPECT,
        (PeerState.SUSPECT, _Input.SILENT): PeerState.SUSPECT,
        (PeerState.SUSPECT, _Input.DENIED): PeerState.REFUSED,
        (PeerState.REFUSED, _Input.ANSWERED): PeerState.UP,
        (PeerState.REFUSED, _Input.DRAINS): PeerState.DRAINING,
        (PeerState.REFUSED, _Input.LOST): PeerState.QUARANTINED,
        (PeerState.REFUSED, _Input.SILENT): PeerState.QUARANTINED,
        (PeerState.REFUSED, _Input.DENIED): PeerState.REFUSED,
    }
)


def retry_delay(failures: int) -> float:
    """Return the seconds to wait before connecting again after so many failures in a row: doubling, bounded."""
    doublings = min(max(0, failures - 1), MAX_DOUBLINGS)
    return min(FIRST_RETRY * 2.0**doublings, LONGEST_RETRY)


class Registry:
    """
    The peers we know. Only touched from the loop of the node it belongs to.

    Args:
        own: the instance id of this process: its own announcement is not a peer.
        fingerprints: the fingerprints of our keys. Hints with one of them are preferred; without keys all are equal.

    """

    def __init__(self, own: InstanceId = "", fingerprints: Collection[str] = ()) -> None:
        self.own = own
        self._fingerprints = frozenset(fingerprints)
        self.peers: dict[InstanceId, Peer] = {}
        self.heard_at: dict[InstanceId, float] = {}
        """
        When each peer last answered, or was last announced. No field of the peer: with each heartbeat only this
        changes, and no snapshot is made for it.
        """
        self._evicted: dict[InstanceId, None] = {}
        self._departed: dict[InstanceId, None] = {}
        self.ignored: dict[str, int] = {"own": 0, "evicted": 0, "full": 0}
        """The number of ignored announcements, by reason."""

    # Inputs: hints

    def announced(self, announcement: Announcement, source: Source, now: float) -> list[Fact]:
        """Record that a peer is announced."""
        known = self.peers.get(announcement.instance)
        if known is not None:
            return self._announced_again(known, announcement, source, now)
        if (reason := self._reason_to_ignore(announcement, source)) is not None:
            self.ignored[reason] += 1
            return []
        self.peers[announcement.instance] = Peer(
            announcement=announcement,
            state=PeerState.UNVERIFIED,
            source=source,
            changed_at=now,
            retry_at=now,
        )
        self.heard_at[announcement.instance] = now
        return []

    def withdrawn(self, instance: InstanceId) -> list[Fact]:
        """Record that discovery lost a peer. This does not change a peer that is up: its connection decides."""
        peer = self.peers.get(instance)
        if peer is not None and peer.state in _HINTS:
            # No tombstone: the hint is withdrawn, and the next one counts again.
            self._remove(instance)
        return []

    def reported_lost(self, instance: InstanceId) -> list[Fact]:
        """Record that another peer lost a peer. As that may be wrong, only hearsay is removed."""
        peer = self.peers.get(instance)
        if peer is not None and peer.state is PeerState.UNVERIFIED and peer.source is Source.HEARSAY:
            self._remove(instance)
        return []

    def inherit(self, peers: Iterable[Peer], now: float) -> None:
        """
        Mark peers as up that another registry of this process has seen, until a change is recorded.

        The caller connects to each of them: there is no connection yet that would show their loss.
        """
        for peer in peers:
            if peer.is_up and peer.instance != self.own:
                self.peers[peer.instance] = replace(peer, failures=0, refused=0)
                self.heard_at[peer.instance] = now

    # Inputs: connections

    def answered(
        self,
        announcement: Announcement,
        now: float,
        *,
        endpoint: str,
        event_endpoint: str,
        draining: bool = False,
        source: Source = Source.SEED,
    ) -> list[Fact]:
        """Record a WELCOME: this instance is alive at this endpoint, and sent this announcement."""
        known = self.peers.get(announcement.instance)
        is_new_there = known is None or known.endpoint != endpoint
        facts = self._evict_predecessors(announcement.instance, endpoint) if is_new_there else []
        if known is None:
            self._make_room()  # a peer that answered is recorded in any case: we connected to it
            known = Peer(announcement=announcement, state=PeerState.UNVERIFIED, source=source, changed_at=now)
        state = _TRANSITIONS[known.state, _Input.DRAINS if draining else _Input.ANSWERED]
        peer = replace(
            known,
            announcement=announcement,
            state=state,
            endpoint=endpoint,
            event_endpoint=event_endpoint,
            changed_at=known.changed_at if state is known.state else now,
            failures=0,
            refused=0,
            problem="",
            elsewhere=(),
        )
        self.heard_at[peer.instance] = now
        if peer == self.peers.get(peer.instance):
            return facts  # a heartbeat: with the same object, to compare registry and snapshot costs next to nothing
        self.peers[peer.instance] = peer
        self._evicted.pop(peer.instance, None)
        return [*facts, *_difference(known, peer)]

    def lost(self, instance: InstanceId, now: float, reason: str) -> list[Fact]:
        """Record that the connection to a peer broke."""
        return self._failed(instance, _Input.LOST, now, reason, refused=False)

    def silent(self, instance: InstanceId, now: float, reason: str, *, refused: bool = False) -> list[Fact]:
        """Record that an attempt to reach a peer failed; `refused`: nothing listens at that address."""
        return self._failed(instance, _Input.SILENT, now, reason, refused=refused)

    def denied(self, instance: InstanceId, now: float, reason: str) -> list[Fact]:
        """Record that a peer exists, and uses another key."""
        return self._failed(instance, _Input.DENIED, now, reason, refused=False)

    def drains(self, instance: InstanceId, now: float) -> list[Fact]:
        """Record that a peer is draining. It says so over its connection, so this is ignored without one."""
        peer = self.peers.get(instance)
        if peer is None or not peer.is_up:
            return []
        drained = replace(peer, state=_TRANSITIONS[peer.state, _Input.DRAINS], changed_at=now)
        self.peers[instance] = drained
        return _difference(peer, drained)

    def left(self, instance: InstanceId, reason: str) -> list[Fact]:
        """Record that a peer is gone for good."""
        peer = self.peers.get(instance)
        if peer is None:
            return []
        self._remove(instance)
        self._evicted[instance] = None
        while len(self._evicted) > TOMBSTONES:
            del self._evicted[next(iter(self._evicted))]
        if peer.state is PeerState.DRAINING:
            self._departed[instance] = None
            while len(self._departed) > MAX_DEPARTED:
                del self._departed[next(iter(self._departed))]
        return [PeerLeft(peer, reason)] if peer.is_live else []

    # Queries

    def is_unproven(self, peer: Peer) -> bool:
        """Return whether a peer never answered, and its announcement differs from those of this bus's workers."""
        return not peer.endpoint and self._priority(peer.announcement) != (True, True)

    def rank(self, peer: Peer) -> tuple[bool | int, ...]:
        """Return a sort key by which the most promising peers come first: those that answered, and have our key."""
        has_our_key, is_usual = self._priority(peer.announcement)
        return not peer.endpoint, not has_our_key, not is_usual, peer.failures

    def due(self, now: float) -> list[Peer]:
        """Return the peers to connect to now: all that are not live and whose pause has ended."""
        return [peer for peer in self.peers.values() if not peer.is_live and peer.retry_at <= now]

    def forget_silent(self, now: float) -> None:
        """Forget peers that were not announced for longer than any cache keeps an outdated record."""
        for peer in list(self.peers.values()):
            if not peer.is_live and now - self.heard_at[peer.instance] > FORGET_AFTER:
                self.left(peer.instance, "was not heard from for a long time")

    def advertising(self, api: str) -> list[Peer]:
        """Return all peers that advertise an API, or are announced with it, in any state."""
        return [peer for peer in self.peers.values() if peer.advertises(api)]

    def verified(self) -> list[InstanceId]:
        """Return the instances that are up: only these are passed on to others, no hearsay."""
        return sorted(peer.instance for peer in self.peers.values() if peer.is_up)

    def snapshot(self) -> Snapshot:
        """Return a view for channels."""
        by_api: dict[str, list[Peer]] = {}
        keeping: dict[str, list[Peer]] = {}
        announced: dict[str, list[Peer]] = {}
        for peer in self.peers.values():
            kept = peer.keeps
            for name in peer.announcement.api_names or ():
                where = announced if not peer.is_up else keeping if name in kept else by_api
                where.setdefault(name, []).append(peer)
        serving = {name: [peer for peer in peers if peer.serves(name)] for name, peers in by_api.items()}
        events = frozenset(
            (api.name, event)
            for peer in self.peers.values()
            if peer.is_up
            for api in peer.announcement.apis or ()
            if not api.keeps
            for event in api.events
        )
        return Snapshot(
            peers=dict(self.peers),
            by_api=_frozen(by_api),
            serving=_frozen(serving),
            mixed=frozenset(name for name, peers in serving.items() if len(peers) > 1 and is_mixed(name, peers)),
            keeping=_frozen(keeping),
            announced=_frozen(announced),
            events=events,
            departed=frozenset(self._departed),
        )

    # Private helpers

    def _reason_to_ignore(self, announcement: Announcement, source: Source) -> str | None:
        if announcement.instance == self.own:
            return "own"
        if source is Source.HEARSAY and announcement.instance in self._evicted:
            return "evicted"
        return None if self._make_room(self._priority(announcement)) else "full"

    def _make_room(self, worth: tuple[bool, bool] = (True, True)) -> bool:
        """
        Return whether there is room for a peer of this worth. Hints that are not worth more are dropped for it.

        First the oldest of those that did not answer. Of the untried ones, those in the middle: a peer announced before
        a flood of forged announcements stays, and one announced during the flood is still tried.
        """
        if len(self.peers) < MAX_PEERS:
            return True
        for state in _HINTS:
            hints = [peer for peer in self.peers.values() if peer.state is state]
            least = min((self._priority(peer.announcement) for peer in hints), default=(True, True))
            if hints and least <= worth:
                hints = [peer for peer in hints if self._priority(peer.announcement) == least]
                hints.sort(key=lambda peer: self.heard_at[peer.instance])
                first = len(hints) // 2 if state is PeerState.UNVERIFIED else 0
                # Several at a time: in a flood this sorts all hints only for a fraction of the announcements.
                for peer in hints[first : first + max(1, MAX_PEERS // 64)]:
                    self._remove(peer.instance)
                return True
        return False

    def _priority(self, announcement: Announcement) -> tuple[bool, bool]:
        """Return the worth of a hint, compared to others: forged announcements cost their sender nothing."""
        has_our_key = not self._fingerprints or announcement.fingerprint in self._fingerprints
        return has_our_key, len(announcement.addresses) <= USUAL_ADDRESSES

    def _announced_again(self, known: Peer, announcement: Announcement, source: Source, now: float) -> list[Fact]:
        if known.is_live:
            # Its announcement over the connection takes precedence. But the connection may break because the host got
            # another address: then that address is tried, too.
            addresses = known.announcement.addresses
            elsewhere = tuple(address for address in announcement.addresses if address not in addresses)
            if addresses and source is not Source.HEARSAY and elsewhere != known.elsewhere:
                self.peers[known.instance] = replace(known, elsewhere=elsewhere)
            return []
        self.heard_at[known.instance] = now
        # A new announcement of a quarantined peer allows one attempt at once, unless it is only hearsay.
        retry_at = known.retry_at if source is Source.HEARSAY else min(known.retry_at, now)
        source = source if source is Source.CLAIM else known.source
        self.peers[known.instance] = replace(known, announcement=announcement, source=source, retry_at=retry_at)
        return []

    def _failed(self, instance: InstanceId, what: _Input, now: float, reason: str, *, refused: bool) -> list[Fact]:
        peer = self.peers.get(instance)
        if peer is None:
            return []
        addresses = (*peer.announcement.addresses, *peer.elsewhere)[:MAX_ADDRESSES]
        unsteady = peer.unsteady
        if peer.is_live:
            unsteady = unsteady + 1 if now - peer.changed_at < STEADY else 0
        failed = replace(
            peer,
            announcement=replace(peer.announcement, addresses=addresses) if peer.elsewhere else peer.announcement,
            elsewhere=(),
            state=_TRANSITIONS[peer.state, what],
            failures=peer.failures + 1,
            refused=peer.refused + 1 if refused else 0,
            unsteady=unsteady,
            retry_at=now + retry_delay(max(peer.failures + 1, unsteady)) * _retry_factor(peer, known=len(self.peers)),
            problem=reason,
        )
        if failed.state is not peer.state:
            failed = replace(failed, changed_at=now)
        self.peers[instance] = failed
        facts = _difference(peer, failed, reason)
        if failed.refused >= MAX_REFUSED:
            facts += self.left(instance, "refuses connections")
        return facts

    def _remove(self, instance: InstanceId) -> None:
        del self.peers[instance], self.heard_at[instance]

    def _evict_predecessors(self, instance: InstanceId, endpoint: str) -> list[Fact]:
        """Remove other instances at an endpoint: it belongs to one process, so they are gone."""
        old = [peer for peer in self.peers.values() if peer.endpoint == endpoint and peer.instance != instance]
        return [fact for peer in old for fact in self.left(peer.instance, "was replaced at its endpoint")]


def _retry_factor(peer: Peer, *, known: int) -> float:
    """Return the factor of a peer's pause: it grows with the number of peers, so that the total cost does not."""
    if peer.endpoint or known <= CROWD:
        return 1.0
    return known / CROWD * max(1.0, len(peer.announcement.addresses) / USUAL_ADDRESSES)


def _frozen(groups: dict[str, list[Peer]]) -> Mapping[str, tuple[Peer, ...]]:
    return {name: tuple(peers) for name, peers in groups.items()}


def _difference(old: Peer, new: Peer, reason: str = "left") -> list[Fact]:
    if new.is_up and not old.is_up:
        return [PeerJoined(new)]
    if old.is_live and not new.is_live:
        return [PeerLeft(new, reason)]
    return [PeerUpdated(new)] if new.is_live and _public_facts(old) != _public_facts(new) else []


def _public_facts(peer: Peer) -> tuple[object, ...]:
    """Return the facts that are passed on about a peer: other changes are not announced."""
    return peer.state, peer.announcement, peer.endpoint, peer.event_endpoint
