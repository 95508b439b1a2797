"""
Discovery: how the peers of a bus hear of each other, whatever carries it.

An announcement is a hint. HELLO shows whether a peer is really there; which peers to dial is decided in `core`.
All calls of one object come from one event loop, and its state is only touched there. Every implementation passes
`tests/ports/test_discovery.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ..typing import InstanceId
from ..wire.announcement import Announcement

__all__ = ["Discovery", "DiscoveryFactory", "Found", "Lost"]

Found: TypeAlias = Callable[[Announcement], None]
Lost: TypeAlias = Callable[[InstanceId], None]


class Discovery(Protocol):
    """A way to announce ourselves and to hear of others. No method raises because of the network: see `problem`."""

    @property
    def problem(self) -> str | None:
        """A sentence with the remedy while discovery does not work; None while it does."""

    def describe(self) -> str:
        """Return how and where peers are looked for, for messages, before `start` too: "zeroconf on 127.0.0.1"."""

    def foreign_peers(self, api: str) -> list[str]:
        """Return a clause for messages about each announced peer of another bus that has this API; or none."""

    async def start(self, found: Found, lost: Lost) -> None:
        """
        Listen. `found` is called for each peer of our bus, and again when what it announces changes; `lost` when it
        says goodbye or its announcement runs out. Both are called on this loop, never for ourselves, and not after
        `stop`; they must not block.
        """

    async def announce(self, announcement: Announcement) -> None:
        """Make ourselves known, after `start`. Called again, it replaces what was announced before."""

    def look(self) -> None:
        """Look again at once, if that costs next to nothing; changes have been reported when this returns."""

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Move to other addresses of this host, after `start`, and announce this there."""

    async def withdraw(self) -> None:
        """Say goodbye: when it returns the others have been informed. Does nothing if nothing is announced."""

    async def stop(self) -> None:
        """Withdraw, and leave nothing running. Takes a few seconds at most."""


DiscoveryFactory: TypeAlias = Callable[[str], Discovery]
"""Makes a discovery, given the name of the bus: one for each loop that a process is on. What `create` takes."""
