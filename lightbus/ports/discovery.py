"""
Discovery: how the peers of a bus find each other, by any means.

An announcement is a hint. HELLO verifies that a peer exists; `core` decides which peers to connect to.
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
    """A way to announce this peer and to hear of others. Methods do not raise errors of the network: see `problem`."""

    @property
    def problem(self) -> str | None:
        """A sentence with the remedy while discovery does not work; None while it does."""

    def describe(self) -> str:
        """Return how and where peers are looked for, for log lines, also before `start`: "zeroconf on 127.0.0.1"."""

    def foreign_peers(self, api: str) -> list[str]:
        """Return, for error messages, a clause about each announced peer of another bus that has this API."""

    async def start(self, found: Found, lost: Lost) -> None:
        """
        Start to listen. `found` is called for each peer of our bus, and again when its announcement changes; `lost`
        when the peer says goodbye or its announcement expires. Both are called on this loop, never for this peer
        itself, and not after `stop`; they must not block.
        """

    async def announce(self, announcement: Announcement) -> None:
        """Announce this peer, after `start`. A further call replaces the earlier announcement."""

    def look(self) -> None:
        """
        Check again at once, if that is cheap; called when a call begins to wait, and about each second while it waits.

        What can be read here has been reported when this returns. Who has to ask others should do so with growing
        pauses.
        """

    async def move(self, addresses: Sequence[str], announcement: Announcement | None) -> None:
        """Move to other addresses of this host, after `start`, and send this announcement there."""

    async def withdraw(self) -> None:
        """Say goodbye: when this returns, the peers have been informed. Does nothing if nothing is announced."""

    async def stop(self) -> None:
        """Withdraw, and stop all tasks. Takes a few seconds at most."""


DiscoveryFactory: TypeAlias = Callable[[str], Discovery]
"""Makes a discovery from the name of the bus: one for each event loop of a process. An argument of `create`."""
