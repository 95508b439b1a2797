"""What the sockets in memory share: what arrived, and how it is read on the loop that a socket was made on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from contextvars import copy_context
from typing import Any

from .network import Arrived, MemoryNetwork, MemoryPipe

__all__ = ["MemoryLoopSocket", "MemorySocket"]

FAIR_SHARE = 256
"""Frames read from one socket before the rest of the loop gets its turn."""


class MemorySocket:
    """What all sockets share: what arrived, and the connections. Guarded by the network's lock."""

    def __init__(self, network: MemoryNetwork, max_message_size: int) -> None:
        self.max_message_size = max_message_size
        self.arrived: deque[Arrived] = deque()
        self.closed = False
        self.dropped = 0
        """Frames that were not sent, since their receiver was gone or too far behind."""
        self._network = network
        self._connections: set[MemoryPipe] = set()

    def wake(self) -> None:
        """Have this socket look what there is, wherever it is read."""
        self._wake()

    def _wake(self) -> None:
        raise NotImplementedError

    def connected(self, connection: MemoryPipe) -> None:
        """Record that somebody connected."""
        self._connections.add(connection)

    def disconnected(self, connection: MemoryPipe) -> None:
        """Record that a connection has ended."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close the socket. What others have not read yet arrives; what was not read here is dropped."""
        with self._network.lock:
            self.closed = True
            self._leave()
            for connection in list(self._connections):
                connection.end()
            self.arrived.clear()

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket: what was sent has arrived already."""
        self.close()

    def abandon(self) -> None:
        """Close the socket of a loop that was closed before it."""
        self.close()

    def _leave(self) -> None:
        """Be connected to no more."""

    def _take(self) -> tuple[MemoryPipe | None, Any] | None:
        """Return what arrived first, and from where."""
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
        # What is read is nothing of whoever sent it: a callback runs in the context in which the socket was made.
        self._context = copy_context()

    def _wake(self) -> None:
        if self._is_woken or self.closed:
            return
        self._is_woken = True
        here = asyncio._get_running_loop() is self.loop
        call = self.loop.call_soon if here else self.loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # that loop is closed: the socket is about to be abandoned
            call(self._look, context=self._context)

    def _look(self) -> None:
        """Read until nothing is left, or the others on the loop have a right to their turn."""
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
        """Hand on what arrived."""
        raise NotImplementedError

    def _writable(self) -> None:
        """Do what waits for the connection."""
