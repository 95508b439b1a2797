"""
Transport in memory: between the loops and threads of one process, without a file, a socket or a thread of its own.

It fulfils the contract of `ports.transport` like the one over ZeroMQ: bounded queues, connections that are made again,
links that report their state. Frames are passed on without a copy.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TypeVar

from ...ports.transport import LinkState
from ...typing import Endpoint
from .addressing import MemoryAddressing, NoProtection
from .bound_sockets import MemoryPublisher, MemoryRouter
from .connecting_sockets import MemoryBlockingDealer, MemoryDealer, MemorySubscriber
from .loop_socket import MemorySocket
from .network import MemoryNetwork

__all__ = ["MemoryTransport"]

S = TypeVar("S", bound=MemorySocket)

MAX_MESSAGE_SIZE = 64 * 1024 * 1024


class MemoryTransport:
    """
    Makes sockets, which can connect to all others on the same network. Any thread may use it.

    Args:
        network: the network that the sockets are on.
        max_message_size: the largest frame, in bytes, that the sockets receive.

    """

    def __init__(self, network: MemoryNetwork, *, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        self.network = network
        self.max_message_size = max_message_size
        self.security = NoProtection()
        self.refused: Mapping[str, int] = {}
        self.crowding: str | None = None
        self._sockets: weakref.WeakSet[MemorySocket] = weakref.WeakSet()

    def addressing(self) -> MemoryAddressing:
        """Return the endpoints of the network."""
        return MemoryAddressing(self.network)

    def router(self, on_message: Callable[[bytes, bytes], None]) -> MemoryRouter:
        """Return a router."""
        return self._add(MemoryRouter(self.network, self.max_message_size, on_message))

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> MemoryPublisher:
        """Return a publisher."""
        return self._add(MemoryPublisher(self.network, self.max_message_size, on_subscription))

    def dealer(
        self,
        endpoint: Endpoint,
        on_message: Callable[[bytes], None],
        *,
        fingerprint: str = "",
        on_state: Callable[[LinkState], None] | None = None,
        awaited: Callable[[], int] = int,
    ) -> MemoryDealer:
        """Return a dealer. `fingerprint` is ignored: there are no keys."""
        return self._add(MemoryDealer(self.network, self.max_message_size, endpoint, on_message, on_state))

    def subscriber(
        self, endpoint: Endpoint, on_message: Callable[[bytes], None], *, fingerprint: str = ""
    ) -> MemorySubscriber:
        """Return a subscriber."""
        return self._add(MemorySubscriber(self.network, self.max_message_size, endpoint, on_message))

    def blocking_dealer(self, endpoint: Endpoint, *, fingerprint: str = "") -> MemoryBlockingDealer:
        """Return a dealer for a plain thread."""
        return self._add(MemoryBlockingDealer(self.network, self.max_message_size, endpoint))

    def look(self, now: float) -> None:
        """Do nothing: all queues are bounded."""

    def when_grown(self, callback: Callable[[], None]) -> None:
        """Do nothing: all queues are bounded."""

    def close(self) -> None:
        """Close every socket that is still open."""
        with self.network.lock:
            open_ones = list(self._sockets)
        for socket in open_ones:
            socket.abandon()

    def _add(self, socket: S) -> S:
        with self.network.lock:
            self._sockets.add(socket)
        return socket
