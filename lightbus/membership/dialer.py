"""Which peers to dial, when and how often: the announced peers, and the fixed peers of the settings.

It starts and limits the attempts, and keeps the state of the fixed peers. The node handles the answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Protocol

from ..adapters.host.descriptors import descriptor_limit, descriptors_left
from ..core.registry import Peer, Registry, Source
from ..ports.transport import MOST_ENDPOINTS, Addressing, Transport
from .link import Dial, Link, LinkUser
from .seeds import Seeds

__all__ = ["EVERYTHING", "EXCHANGE_PARTNERS", "MAX_DIALS", "DialUser", "Dialer"]

logger = logging.getLogger("lightbus.dialing")

EXCHANGE_PARTNERS = 3
"""Peers that stay connected although none of their APIs is used: they report other peers."""

EVERYTHING = "*"
"""As a wanted API: every peer, whatever it advertises. No API has this name."""

MAX_DIALS = 32
"""Peers tried at a time. Each attempt takes a few descriptors, and anybody can announce peers that do not exist."""

FOR_ASKED = 8
"""Further peers tried at a time if a call waits for them."""

MAX_ADDRESSES_TRIED = 64
"""Addresses tried at a time, of all peers; each takes four descriptors meanwhile. Fewer if the limit is low."""

LIMIT_SHARE = 16
"""Addresses tried at a time are at most the limit of open descriptors divided by this."""

UNPROVEN_SHARE, UNPROVEN_SHARE_ASKED = 0.25, 0.5
"""
Share of these limits for peers that never answered, and were announced in another way than workers of this bus
announce themselves; the second applies while a call waits for them.
"""

CONFIRM_ATTEMPTS = 2
"""
Attempts in a row after which a peer that counts as up, and accepts no connection, is lost: they take about as long as
it takes to notice that a connected process was stopped (`network.heartbeat_interval` and `heartbeat_timeout`).
"""

CONFIRM_SHARE = 0.5
"""
Share of the attempts at a time for peers that count as up: they are tried until they answer, and others need attempts,
too. While some of them wait, the others have the rest.
"""

WARN_EVERY = 600.0
"""Seconds between two warnings that no further peer can be connected to."""


class DialUser(LinkUser, Protocol):
    """Informed when attempts fail or end: the node. Of success it is informed as the user of the link."""

    def unreachable(self, instance: str, reason: str, *, refused: bool = False) -> None:
        """An attempt to reach a peer failed; `refused`: nothing listens at its address."""

    def denied(self, instance: str, reason: str) -> None:
        """A peer is reachable, but has no key in common with this process."""

    def attempt_is_over(self) -> None:
        """An attempt ended, successfully or not."""


class Dialer:
    """
    Connects to peers. Only touched from the node's loop.

    Args:
        user: the node.
        transport: makes the sockets.
        addressing: returns the endpoints of a peer.
        registry: the known peers.
        links: the connected peers, by instance.
        wanted: the APIs that this process uses.
        seeds: endpoints of fixed peers.
        fingerprints: of our keys, in the order in which they are tried with fixed peers.

    Attributes:
        seeds: the fixed peers and their state.

    """

    def __init__(
        self,
        user: DialUser,
        transport: Transport,
        addressing: Addressing,
        registry: Registry,
        links: Mapping[str, Link],
        wanted: set[str],
        *,
        seeds: Iterable[str] = (),
        fingerprints: Sequence[str] = ("",),
    ) -> None:
        self._user = user
        self._transport = transport
        self._registry = registry
        self._links = links
        self._wanted = wanted
        self.seeds = Seeds(seeds, self._on_seeds_resolved, lambda: time.monotonic())
        self._addressing = addressing
        self._fingerprints = fingerprints
        self._addresses_tried = min(MAX_ADDRESSES_TRIED, max(MOST_ENDPOINTS, descriptor_limit() // LIMIT_SHARE))
        self._warned_at = 0.0
        self._dials: dict[str, Dial] = {}
        self._to_confirm: dict[str, None] = {}
        """The instances that count as up and wait for an attempt, in the order of their turns."""
        self._unconfirmed: dict[str, int] = {}
        """By instance that counts as up: the attempts that it accepted no connection in, in a row."""
        self._closed = False

    def confirm(self, peers: Iterable[Peer]) -> None:
        """Dial peers that are considered up, but are not connected yet, until each has answered or is lost."""
        self._to_confirm.update(dict.fromkeys(peer.instance for peer in peers))

    def dial_due(self, now: float) -> None:
        """Try all peers that are due, within the limits; those that failed before come last."""
        self._dial_seeds(now)
        more = self._confirm_some()
        if (due := self._registry.due(now)) and self._has_room():
            if not self._has_room(share=UNPROVEN_SHARE):
                # Usually after a flood of announcements: to sort them all ten times a second would be too expensive.
                due = [peer for peer in due if not self._registry.is_unproven(peer)]
            for peer in self._ordered(filter(self._is_wanted, due)):
                if more <= 0 or not self._has_room_for(peer):
                    break  # unproven peers come last
                if self._is_wanted(peer):
                    self.dial(peer)
                    more -= 1

    def _confirm_some(self) -> float:
        """Try peers that count as up; return how many attempts may begin for others."""
        peers = self._registry.peers
        live = sum(1 for each in self._dials if each in peers and peers[each].is_live)
        others = len(self._dials) - live
        while self._to_confirm and live < CONFIRM_SHARE * MAX_DIALS and self._has_room():
            instance = next(iter(self._to_confirm))
            del self._to_confirm[instance]
            if instance in peers and peers[instance].is_live:
                self.dial(peers[instance])
                live += 1
        return (1.0 - CONFIRM_SHARE) * MAX_DIALS - others if self._to_confirm else MAX_DIALS

    def is_due(self, by: float) -> bool:
        """Return whether a peer is due at the time `by`."""
        if self._to_confirm or self.seeds.is_due(by):
            return True
        return any(map(self._is_wanted, self._registry.due(by)))

    def dial_wanted(self, peers: Iterable[Peer]) -> None:
        """Try peers that a call waits for; some attempts are reserved for these."""
        for peer in self._ordered(peers):
            if not self._has_room_for(peer, FOR_ASKED):
                break
            self.dial(peer, more=FOR_ASKED)

    def consider(self, instance: str, now: float) -> None:
        """Try a peer that was just announced, if it is wanted and due. No other peer is checked."""
        peer = self._registry.peers.get(instance)
        if peer is not None and not peer.is_live and peer.retry_at <= now and self._is_wanted(peer):
            self.dial(peer)

    def dial(self, peer: Peer, *, more: int = 0) -> None:
        """Try a peer, unless it is connected or being tried, or the limit (plus `more`) is reached."""
        announcement = peer.announcement
        if peer.instance in self._links or peer.instance == self._registry.own:
            return
        if not self._has_room_for(peer, more):
            return
        if reason := _other_key(announcement.fingerprint, self._fingerprints):
            # Checked before a socket is opened for each address: in a flood of foreign peers these would be many.
            self._user.denied(peer.instance, reason)
            return
        endpoints = self._addressing.endpoints(announcement, peer.failures)
        if not endpoints:
            why = self._addressing.why_not(announcement)
            self._user.unreachable(peer.instance, why, refused=self._addressing.is_gone(announcement))
            return
        self._dial(peer.instance, peer.instance, endpoints, announcement.fingerprint)

    def hint(self, peer: Peer) -> str:
        """Return a sentence on why a peer may not answer, and what to do on this host."""
        if not descriptors_left():
            return f"This process has reached its limit of {descriptor_limit()} open files: raise it (ulimit -n)."
        return self._addressing.hint(peer.announcement)

    def may_find(self, api: str) -> bool:
        """Return whether an attempt is in progress that may reach a peer with this API."""
        if self.seeds.are_resolving():
            return True
        return any(self._may_advertise(api, dial) for dial in self._dials.values())

    def has_untried_seed(self) -> bool:
        """Return whether a fixed peer has neither been reached nor failed yet."""
        return self.seeds.has_untried()

    def linked(self, link: Link, *, ourselves: bool = False) -> None:
        """Record that a peer answered; if it is a fixed peer, it is no longer tried."""
        self.seeds.linked(link.endpoint, link.instance, ourselves=ourselves)

    def unlinked(self, instance: str) -> None:
        """Record that a connection ended; if the peer is a fixed peer, it is tried again."""
        self.seeds.unlinked(instance, time.monotonic())

    def close(self) -> None:
        """Give up all attempts, and start no more."""
        self._closed = True
        self.seeds.close()
        for dial in self._dials.values():
            dial.close()
        self._dials.clear()

    def abandon(self) -> None:
        """Give up all attempts after the loop was closed."""
        self._closed = True
        self.seeds.close()
        for dial in self._dials.values():
            dial.abandon()
        self._dials.clear()

    # Inside

    def _has_room_for(self, peer: Peer, more: int = 0) -> bool:
        # Unproven peers never use all attempts: a better one may be announced at any time.
        if not self._registry.is_unproven(peer):
            return self._has_room(more)
        return self._has_room(more, share=UNPROVEN_SHARE_ASKED if more else UNPROVEN_SHARE)

    def _has_room(self, more: int = 0, *, share: float = 1.0) -> bool:
        dials, addresses = share * (MAX_DIALS + more), share * (self._addresses_tried + MOST_ENDPOINTS * more)
        if len(self._dials) >= dials or sum([len(dial.endpoints) for dial in self._dials.values()]) >= addresses:
            return False
        if descriptors_left():
            return True
        now = time.monotonic()
        if now >= self._warned_at:
            self._warned_at = now + WARN_EVERY
            logger.warning(
                "No new peer is connected: this process has reached its limit of %d open files. Raise it (ulimit -n)",
                descriptor_limit(),
            )
        return False

    def _ordered(self, peers: Iterable[Peer]) -> list[Peer]:
        """
        Return peers in the order in which to try them.

        Within a rank, the latest and the earliest announced alternate: so a real peer is tried soon, whether it was
        announced during a flood of forged announcements or before it.
        """
        rank, heard_at = self._registry.rank, self._registry.heard_at
        equals = sorted(sorted(peers, key=lambda peer: heard_at.get(peer.instance, 0.0)), key=rank)
        return [peer for _, group in groupby(equals, key=rank) for peer in _from_both_ends(list(group))]

    def _is_wanted(self, peer: Peer) -> bool:
        names = peer.announcement.api_names
        if names is None or EVERYTHING in self._wanted or not self._wanted.isdisjoint(names):
            return True
        # A peer that introduced itself relies on us to report it, and we report only peers that we are connected to.
        return peer.source is Source.CLAIM or len(self._links) + len(self._dials) < EXCHANGE_PARTNERS

    def _may_advertise(self, api: str, dial: Dial) -> bool:
        if dial.target:
            peer = self._registry.peers.get(dial.target)
            return peer is None or peer.advertises(api) is not False
        return all(address.failures < len(self._fingerprints) for address in self.seeds.at(dial.endpoints))

    def _dial_seeds(self, now: float) -> None:
        for address in self.seeds.due(now):
            fingerprint = self._fingerprints[address.failures % len(self._fingerprints)]
            endpoints = self.seeds.endpoints_of(address, self._addressing.addresses)
            self._dial(address.endpoint, "", endpoints, fingerprint)

    def _on_seeds_resolved(self) -> None:
        self._dial_seeds(time.monotonic())
        self._user.attempt_is_over()  # waiting lookups must check again what they wait for

    def _dial(self, key: str, target: str, endpoints: Sequence[str], fingerprint: str) -> None:
        if key not in self._dials and not self._closed:
            self._dials[key] = Dial(
                self._user, self._transport, endpoints, self._dialled, target=target, fingerprint=fingerprint
            )

    def _dialled(self, dial: Dial, link: Link | None, reason: str, refused: bool) -> None:
        self._dials.pop(dial.target or dial.endpoints[0], None)
        if link is not None:
            self._unconfirmed.pop(dial.target, None)
        else:
            keys = len(self._fingerprints)
            self.seeds.failed(dial.endpoints, time.monotonic(), reason, denied=dial.denied, keys=keys)
            if dial.target and dial.denied:
                self._user.denied(dial.target, reason)
            elif dial.target and not self._must_repeat(dial, refused):
                certain = refused and all(map(self._addressing.is_certain, dial.endpoints))
                self._user.unreachable(dial.target, reason, refused=certain)
        self._user.attempt_is_over()

    def _must_repeat(self, dial: Dial, refused: bool) -> bool:
        """
        Return whether a peer that counts as up is tried again, instead of being lost; if so, queue that.

        It may only be busy: calls to it are in progress, and a connection that exists would not be given up, either,
        while the peer's side of it responds.
        """
        peer = self._registry.peers.get(dial.target)
        before = self._unconfirmed.pop(dial.target, 0)
        failed = 0 if dial.is_connected else before + 1
        if peer is None or not peer.is_live or refused or failed >= CONFIRM_ATTEMPTS:
            return False
        self._unconfirmed[dial.target] = failed
        self._to_confirm[dial.target] = None
        return True


def _from_both_ends(peers: list[Peer]) -> list[Peer]:
    """Return the last, the first, the last but one, and so on."""
    both = [peer for pair in zip(reversed(peers), peers, strict=True) for peer in pair]
    return both[: len(peers)]


def _other_key(fingerprint: str, ours: Sequence[str]) -> str:
    """Return why a peer is not tried: it is announced with another key than ours, or with none; "" if its key fits."""
    if "" in ours or fingerprint in ours:
        return ""
    has = f"the key {fingerprint:.48}" if fingerprint else "no key"
    return f"is not asked: it has {has}, and ours is {', '.join(ours)}"
