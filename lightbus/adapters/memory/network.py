"""
A network in memory: the sockets of one process, their connections, and the frames in transit.

It knows connections and bounds, and nothing of loops or callbacks, which belong to the sockets (`transport`).
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from typing import Any, Protocol, TypeAlias

from ...typing import Endpoint

__all__ = ["HIGH_WATER", "MAX_WAITING", "Arrived", "Lane", "MemoryInbox", "MemoryNetwork", "MemoryPipe"]

HIGH_WATER = 10_000
"""Most frames that may wait in one direction of a connection: as many as ZeroMQ is told to queue."""

MAX_WAITING = 64 * 1024 * 1024
"""Bytes of waiting frames above which no more are taken. If none waits, a frame of any size is taken."""


class MemoryInbox(Protocol):
    """The receiving side of a socket. Its methods are called with the network's lock held."""

    arrived: deque[Arrived]
    max_message_size: int

    def wake(self) -> None:
        """Make the socket check soon, where it is read: something has arrived, or can be sent."""

    def connected(self, connection: MemoryPipe) -> None:
        """Record a new connection to this socket."""

    def disconnected(self, connection: MemoryPipe) -> None:
        """Record that a connection has ended."""


class Lane:
    """One direction of a connection, with its counts of unread frames and bytes. Guarded by the network's lock."""

    __slots__ = ("frames", "is_held_up", "size")

    def __init__(self) -> None:
        self.frames = 0
        self.size = 0
        self.is_held_up = False
        """Whether a frame was not taken, so that the sender must be woken later."""

    @property
    def is_full(self) -> bool:
        """Whether no more frames are taken."""
        return self.frames >= HIGH_WATER or self.size >= MAX_WAITING

    def read(self, size: int) -> bool:
        """Count a frame that was read; return whether its sender must be woken."""
        self.frames -= 1
        self.size -= size
        if not self.is_held_up or self.frames > HIGH_WATER // 2 or self.size > MAX_WAITING // 2:
            return False
        self.is_held_up = False
        return True


class MemoryPipe:
    """A connection between a connecting socket and a bound one. Guarded by the network's lock."""

    __slots__ = ("client", "is_open", "prefixes", "routing_id", "server", "to_client", "to_server")

    def __init__(self, client: MemoryInbox, server: MemoryInbox, routing_id: bytes) -> None:
        self.client = client
        self.server = server
        self.routing_id = routing_id
        self.is_open = True
        self.to_client = Lane()
        self.to_server = Lane()
        self.prefixes: tuple[bytes, ...] = ()
        """The subscriptions that the publisher at the bound end knows of."""

    def send(self, frame: bytes, *, to_client: bool) -> bool:
        """Deliver a frame to the other end; False if too much waits there. Too large a frame ends the connection."""
        receiver, lane = (self.client, self.to_client) if to_client else (self.server, self.to_server)
        if len(frame) > receiver.max_message_size:
            self.end()
            return True
        if lane.is_full:
            lane.is_held_up = True
            return False
        lane.frames += 1
        lane.size += len(frame)
        receiver.arrived.append((self, lane, frame))
        receiver.wake()
        return True

    def read(self, lane: Lane, frame: bytes) -> None:
        """Count a frame that was read, and wake its sender if it waits."""
        if lane.read(len(frame)):
            (self.server if lane is self.to_client else self.client).wake()

    def end(self) -> None:
        """End the connection, and notify both sockets."""
        if self.is_open:
            self.is_open = False
            self.client.disconnected(self)
            self.server.disconnected(self)


Arrived: TypeAlias = tuple[MemoryPipe | None, Lane | None, Any]
"""A frame, with its connection and the lane that counts it; or another notification, in order with the frames."""


class MemoryNetwork:
    """
    The network that connects the sockets of `MemoryTransport`s, in any loops and threads of one process.

    A forked process starts with an empty network: there are no connections between processes.
    """

    def __init__(self) -> None:
        self.empty()
        _networks.add(self)

    def empty(self) -> None:
        """Forget all sockets and connections."""
        self.lock = threading.RLock()  # guards all fields below, connections and frames
        self._bound: dict[Endpoint, MemoryInbox] = {}
        self._waiting_for_bind: dict[Endpoint, dict[MemoryInbox, None]] = {}
        self._numbers = itertools.count(1)

    def bind(self, endpoint: Endpoint, server: MemoryInbox) -> bool:
        """Let others connect to `server`; False if another socket is bound to the endpoint."""
        with self.lock:
            if self._bound.setdefault(endpoint, server) is not server:
                return False
            for client in self._waiting_for_bind.pop(endpoint, ()):
                client.wake()
            return True

    def unbind(self, endpoint: Endpoint, server: MemoryInbox) -> None:
        """Accept no new connections at an endpoint."""
        with self.lock:
            if self._bound.get(endpoint) is server:
                del self._bound[endpoint]

    def is_bound(self, endpoint: Endpoint) -> bool:
        """Return whether a socket is bound to an endpoint."""
        with self.lock:
            return endpoint in self._bound

    def connect(self, endpoint: Endpoint, client: MemoryInbox) -> MemoryPipe | None:
        """Return a new connection; None if no socket is bound to the endpoint."""
        with self.lock:
            server = self._bound.get(endpoint)
            if server is None:
                return None
            connection = MemoryPipe(client, server, b"\0" + next(self._numbers).to_bytes(4, "big"))
            server.connected(connection)
            return connection

    def wait_for_bind(self, endpoint: Endpoint, client: MemoryInbox) -> None:
        """Wake `client` once a socket is bound to the endpoint."""
        with self.lock:
            self._waiting_for_bind.setdefault(endpoint, {})[client] = None

    def give_up(self, endpoint: Endpoint, client: MemoryInbox) -> None:
        """Undo `wait_for_bind`."""
        with self.lock:
            waiting = self._waiting_for_bind.get(endpoint, {})
            waiting.pop(client, None)
            if not waiting:
                self._waiting_for_bind.pop(endpoint, None)


_networks: weakref.WeakSet[MemoryNetwork] = weakref.WeakSet()


def _empty_all() -> None:
    for network in list(_networks):
        network.empty()


os.register_at_fork(after_in_child=_empty_all)
