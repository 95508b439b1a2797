"""The base classes of sockets in memory: received items, and reading them on the socket's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from contextvars import copy_context
from typing import Any

from .network import Arrived, MemoryNetwork, MemoryPipe

__all__ = ["MemoryLoopSocket", "MemorySocket"]

FAIR_SHARE = 256
"""Frames read from one socket before the rest of the loop gets a turn."""


class MemorySocket:
    """A socket's received items and connections. Guarded by the network's lock."""

    def __init__(self, network: MemoryNetwork, max_message_size: int) -> None:
        self.max_message_size = max_message_size
        self.arrived: deque[Arrived] = deque()
        self.closed = False
        self.dropped = 0
        """Frames that were not sent because their receiver was gone or too far behind."""
        self._network = network
        self._connections: set[MemoryPipe] = set()

    def wake(self) -> None:
        """Make this socket check for received items, and for what it can send."""
        self._wake()

    def _wake(self) -> None:
        raise NotImplementedError

    def connected(self, connection: MemoryPipe) -> None:
        """Record a new connection."""
        self._connections.add(connection)

    def disconnected(self, connection: MemoryPipe) -> None:
        """Record that a connection has ended."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close the socket. Frames sent to others can still be read there; unread frames here are dropped."""
        with self._network.lock:
            self.closed = True
            self._leave()
            for connection in list(self._connections):
                connection.end()
            self.arrived.clear()

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket: sent frames have arrived already."""
        self.close()

    def abandon(self) -> None:
        """Close the socket after its loop was closed."""
        self.close()

    def _leave(self) -> None:
        """Take no new connections any more."""

    def _take(self) -> tuple[MemoryPipe | None, Any] | None:
        """Return the oldest received item, and its connection."""
        if not self.arrived:
            return None
        connection, lane, item = self.arrived.popleft()
        if connection is not None and lane is not None:
            connection.read(lane, item)
        return connection, item


class MemoryLoopSocket(MemorySocket):
    """A socket of an event loop. Woken from any thread, it reads and calls back on its own loop only."""

    def __init__(self, network: MemoryNetwork, max_message_size: int) -> None:
        super().__init__(network, max_message_size)
        self.loop = asyncio.get_running_loop()
        self._paused = False
        self._is_woken = False
        # Callbacks run in the context in which the socket was made, not in that of the sender, who wakes it.
        self._context = copy_context()

    def _wake(self) -> None:
        if self._is_woken or self.closed:
            return
        self._is_woken = True
        here = asyncio._get_running_loop() is self.loop
        call = self.loop.call_soon if here else self.loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # the loop is closed: the socket will be abandoned
            call(self._look, context=self._context)

    def _look(self) -> None:
        """Read until nothing is left, or `FAIR_SHARE` frames are read."""
        with self._network.lock:
            self._is_woken = False
        try:
            for _ in range(FAIR_SHARE):
                with self._network.lock:
                    taken = None if self.closed or self._paused else self._take()
                if taken is None:
                    break
                self._receive(*taken)
        finally:
            with self._network.lock:
                if self.arrived and not self._paused:
                    self._wake()
        if not self.closed:
            self._writable()

    def _receive(self, connection: Any, item: Any) -> None:
        """Pass on a received item."""
        raise NotImplementedError

    def _writable(self) -> None:
        """Send what waits for the connection."""
