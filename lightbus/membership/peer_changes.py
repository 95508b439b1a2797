"""Carries out the decisions of the registry: informs observers of peers that joined, changed and left."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..core.registry import Fact, PeerJoined, PeerLeft, Registry, Snapshot

__all__ = ["PeerChanges", "PeerObserver"]

logger = logging.getLogger("lightbus.node")

REFRESH_AFTER = 0.05
"""Seconds for which announcements are collected into one new snapshot: none of them changes what can be called."""

PeerObserver: TypeAlias = Callable[[Sequence[Fact]], None]
"""Called with the peers that joined, changed or left; not with peers that are only announced."""


class PeerChanges:
    """
    Applies changes of peers, in this order: snapshot, observers, waiting calls. Only touched from the node's loop.

    Args:
        registry: the known peers.
        on_snapshot: called with each new snapshot, and the peers that have left since the previous one.
        wake: wakes calls that wait for a change; called last.

    Attributes:
        digest: a hash of the verified peers: processes with equal digests know the same peers.

    """

    def __init__(
        self,
        registry: Registry,
        *,
        on_snapshot: Callable[[Snapshot, Sequence[PeerLeft]], None],
        wake: Callable[[], None],
    ) -> None:
        self.digest = ""
        self.stopped = False
        self._snapshot = Snapshot()
        self._registry = registry
        self._on_snapshot = on_snapshot
        self.wake = wake
        self._observers: list[PeerObserver] = []
        self._loop = asyncio.get_running_loop()
        self._refresh_timer: asyncio.TimerHandle | None = None

    def observe(self, observer: PeerObserver) -> None:
        """Add an observer. It is called after channels and snapshots are updated."""
        self._observers.append(observer)

    def apply(self, facts: Sequence[Fact]) -> None:
        """Carry out the latest decisions of the registry."""
        if self.stopped:
            return
        if not facts:
            self._refresh_soon()
            return
        for fact in facts:
            self._log(fact)
        self._refresh([fact for fact in facts if isinstance(fact, PeerLeft)])
        for observer in self._observers:
            observer(facts)
        self.wake()

    def stop(self) -> None:
        """Stop calling observers."""
        self.stopped = True
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()

    def _refresh(self, left: Sequence[PeerLeft] = ()) -> None:
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()
            self._refresh_timer = None
        self.digest = _digest(self._registry.verified())
        self._snapshot = self._registry.snapshot()
        self._on_snapshot(self._snapshot, left)

    def _refresh_soon(self) -> None:
        # Each of a hundred peers repeats its announcement every few seconds. The registry keeps the same objects for
        # these, so this comparison is cheap.
        if self._refresh_timer is None and self._registry.peers != self._snapshot.peers:
            self._refresh_timer = self._loop.call_later(REFRESH_AFTER, self._refresh)

    def _log(self, fact: Fact) -> None:
        if fact.peer.instance == self._registry.own:
            return
        if isinstance(fact, PeerLeft):
            logger.info("%s %s", fact.peer.announcement, fact.reason)
        elif isinstance(fact, PeerJoined):
            names = ", ".join(fact.peer.announcement.api_names or ()) or "nothing"
            logger.info("%s is up at %s and advertises %s", fact.peer.announcement, fact.peer.endpoint, names)


def _digest(instances: Sequence[str]) -> str:
    return hashlib.blake2b(",".join(instances).encode(), digest_size=6).hexdigest() if instances else ""
