"""The announcements that a discovery has received, for all implementations of `ports.discovery`."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from ..typing import InstanceId
from ..wire.announcement import Announcement
from .discovery import Found, Lost

__all__ = ["MAX_PEERS", "AnnouncementTable"]

logger = logging.getLogger("lightbus.discovery")

T = TypeVar("T")

MAX_PEERS = 1024
"""Most peers that are remembered: any host of the network can announce any number."""

MAX_WARNED = 256
"""Most sources of ignored announcements that are logged; those of further sources are only counted."""

WARN_EVERY, LONGEST_PAUSE = 1.0, 3600.0
"""Seconds between two warnings about ignored announcements: doubled from the first to the longest."""


class AnnouncementTable:
    """
    The announced peers of one discovery: reported once, and again when they change. For one event loop.

    Args:
        max_peers: peers kept at a time; beyond it the oldest is forgotten.

    Attributes:
        own: the instance id of this process, which is not reported.
        ignored: announcements that were not reported, by reason.

    """

    def __init__(self, max_peers: int = MAX_PEERS) -> None:
        self.own: InstanceId | None = None
        self.ignored: Counter[str] = Counter()
        self._max_peers = max_peers
        self._known: dict[InstanceId, Announcement] = {}
        self._found: Found | None = None
        self._lost: Lost | None = None
        self._warned: set[str] = set()
        self._warn_at = 0.0
        self._pause = WARN_EVERY

    def open(self, found: Found, lost: Lost) -> None:
        """Start to call back."""
        self._found, self._lost = found, lost

    def close(self) -> None:
        """Stop calling back, and forget all peers."""
        self._found = self._lost = None
        self._known.clear()

    def heard(self, announcement: Announcement) -> None:
        """Report a peer that is new, or whose announcement has changed."""
        instance = announcement.instance
        if instance == self.own:
            self.ignored["own"] += 1
        elif self._known.get(instance) != announcement:
            if instance not in self._known and len(self._known) >= self._max_peers:
                self._forget_oldest()
            self._known[instance] = announcement
            _call_back(self._found, announcement)

    def first(self, count: int) -> list[Announcement]:
        """Return the peers that have been known longest, at most so many."""
        return list(islice(self._known.values(), count))

    def forget(self, instance: InstanceId) -> None:
        """Report the next announcement of a peer as if it were new."""
        self._known.pop(instance, None)

    def _forget_oldest(self) -> None:
        # Not the new one: a flood of false announcements must not keep a real peer out. Older real peers were reported.
        oldest = next(iter(self._known))
        del self._known[oldest]
        self.ignore("too many peers", oldest, f"{self._max_peers} newer peers are announced")

    def gone(self, instance: InstanceId) -> None:
        """Report that a peer said goodbye, or that its announcement expired, if the peer was reported."""
        if self._known.pop(instance, None) is not None:
            _call_back(self._lost, instance)

    def ignore(self, kind: str, source: str, reason: str, count: int = 1) -> None:
        """Count ignored announcements, and warn once per source, with growing pauses, of `MAX_WARNED` sources."""
        self.ignored[kind] += count
        now = asyncio.get_running_loop().time()
        if source not in self._warned and len(self._warned) < MAX_WARNED and now >= self._warn_at:
            self._warned.add(source)
            self._warn_at, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            logger.warning("ignored the announcement of %.80r: %s", source, reason)


def _call_back(callback: Callable[[T], None] | None, value: T) -> None:
    """Call back, unless stopped. An error in the callback is logged and does not stop discovery."""
    if callback is not None:
        try:
            callback(value)
        except Exception:
            logger.exception("a callback of discovery failed for %s", value)
