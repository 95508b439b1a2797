"""The sockets in memory that peers connect to: for calls, and for events."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from ...exceptions import TransportError
from ...typing import Endpoint
from .loop_socket import MemoryLoopSocket
from .network import MemoryNetwork, MemoryPipe

__all__ = ["MemoryPublisher", "MemoryRouter"]

logger = logging.getLogger("lightbus.transport")


class _MemoryListeningSocket(MemoryLoopSocket):
    """A socket that peers connect to."""

    def __init__(self, network: MemoryNetwork, max_message_size: int) -> None:
        super().__init__(network, max_message_size)
        self._endpoints: set[Endpoint] = set()
        self._unread = 0

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Bind to an endpoint. Raises TransportError if another socket is bound to it."""
        if not self._network.bind(endpoint, self):
            raise TransportError(f"Cannot listen at {endpoint}: another socket is bound there. Choose another name.")
        self._endpoints.add(endpoint)
        return endpoint

    def unbind(self, endpoint: Endpoint) -> None:
        """Accept no new connections at an endpoint."""
        self._network.unbind(endpoint, self)
        self._endpoints.discard(endpoint)

    def _leave(self) -> None:
        for endpoint in self._endpoints:
            self._network.unbind(endpoint, self)

    def _drop(self, what: str, *, is_gone: bool = False) -> None:
        self.dropped += 1
        if is_gone:
            return  # not worth a log line: the caller has gone
        self._unread += 1
        if self._unread & (self._unread - 1) == 0:  # the first, and then each power of two
            logger.warning("%s was dropped: its receiver does not read what it is sent (%d so far)", what, self._unread)


class MemoryRouter(_MemoryListeningSocket):
    """Receives from many callers, and answers each by its routing id."""

    def __init__(
        self, network: MemoryNetwork, max_message_size: int, on_message: Callable[[bytes, bytes], None]
    ) -> None:
        super().__init__(network, max_message_size)
        self._on_message = on_message
        self._by_id: dict[bytes, MemoryPipe] = {}

    def send(self, routing_id: bytes, frame: bytes) -> bool:
        """Send to a known connection; False if it is gone, or does not read."""
        with self._network.lock:
            connection = self._by_id.get(routing_id)
            if connection is not None and connection.send(frame, to_client=True):
                return True
        self._drop("A reply", is_gone=connection is None)
        return False

    send_from_thread = send  # all that it touches is under the network's lock

    def connected(self, connection: MemoryPipe) -> None:
        super().connected(connection)
        self._by_id[connection.routing_id] = connection

    def disconnected(self, connection: MemoryPipe) -> None:
        super().disconnected(connection)
        self._by_id.pop(connection.routing_id, None)

    def _receive(self, connection: Any, item: Any) -> None:
        self._on_message(connection.routing_id, item)


class MemoryPublisher(_MemoryListeningSocket):
    """Sends each frame to every subscriber that has subscribed to a prefix of it."""

    def __init__(
        self, network: MemoryNetwork, max_message_size: int, on_subscription: Callable[[bytes, bool], None]
    ) -> None:
        super().__init__(network, max_message_size)
        self._on_subscription = on_subscription
        self._subscribers: Counter[bytes] = Counter()

    def send(self, frame: bytes) -> None:
        """Publish, without waiting. A subscriber that is too far behind misses the frame and notices the gap."""
        with self._network.lock:
            missing = [
                connection
                for connection in list(self._connections)
                if frame.startswith(connection.prefixes) and not connection.send(frame, to_client=True)
            ]
        for _ in missing:
            self._drop("What was published")

    def disconnected(self, connection: MemoryPipe) -> None:
        super().disconnected(connection)
        self.arrived.append((connection, None, None))
        self.wake()

    def _receive(self, connection: Any, item: Any) -> None:
        if item is None:
            for prefix in connection.prefixes:
                self._unsubscribed(prefix)
            connection.prefixes = ()
        elif connection.is_open:
            prefix, subscribed = item
            if subscribed:
                connection.prefixes += (prefix,)
                self._subscribers[prefix] += 1
                self._on_subscription(prefix, True)
            elif prefix in connection.prefixes:
                connection.prefixes = tuple(each for each in connection.prefixes if each != prefix)
                self._unsubscribed(prefix)

    def _unsubscribed(self, prefix: bytes) -> None:
        self._subscribers[prefix] -= 1
        if not self._subscribers[prefix]:
            del self._subscribers[prefix]
            self._on_subscription(prefix, False)
