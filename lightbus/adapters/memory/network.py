"""
A network in memory: where the sockets of one process meet, and what is on its way between them.

It knows connections and bounds, and nothing of loops or callbacks: those are the sockets' (`transport`).
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
"""Frames that wait in one direction of a connection before no more are taken: as many as ZeroMQ is told to queue."""

MAX_WAITING = 64 * 1024 * 1024
"""Bytes of them. One frame is always taken where none waits."""


class MemoryInbox(Protocol):
    """What arrives at a socket. All of it is called with the network's lock held."""

    arrived: deque[Arrived]
    max_message_size: int

    def wake(self) -> None:
        """Have the socket look, soon and wherever it is read: something arrived, or can be sent."""

    def connected(self, connection: MemoryPipe) -> None:
        """Record that somebody connected to this one."""

    def disconnected(self, connection: MemoryPipe) -> None:
        """Record that a connection has ended."""


class Lane:
    """One direction of a connection: what was sent and not read yet is counted. Guarded by the network's lock."""

    __slots__ = ("frames", "is_held_up", "size")

    def __init__(self) -> None:
        self.frames = 0
        self.size = 0
        self.is_held_up = False
        """Whether something was not taken, so that the sender is to be woken."""

    @property
    def is_full(self) -> bool:
        """Whether no more is taken."""
        return self.frames >= HIGH_WATER or self.size >= MAX_WAITING

    def read(self, size: int) -> bool:
        """Count a frame that was read; return whether its sender is to be woken."""
        self.frames -= 1
        self.size -= size
        if not self.is_held_up or self.frames > HIGH_WATER // 2 or self.size > MAX_WAITING // 2:
            return False
        self.is_held_up = False
        return True


class MemoryPipe:
    """Between a socket that connected and one that is bound. Guarded by the network's lock."""

    __slots__ = ("client", "is_open", "prefixes", "routing_id", "server", "to_client", "to_server")

    def __init__(self, client: MemoryInbox, server: MemoryInbox, routing_id: bytes) -> None:
        self.client = client
        self.server = server
        self.routing_id = routing_id
        self.is_open = True
        self.to_client = Lane()
        self.to_server = Lane()
        self.prefixes: tuple[bytes, ...] = ()
        """What the publisher at its end knows it to be subscribed to."""

    def send(self, frame: bytes, *, to_client: bool) -> bool:
        """Have a frame arrive at the other end; False where too much waits there. One that is too long ends it all."""
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
        """Count a frame that was read at its end."""
        if lane.read(len(frame)):
            (self.server if lane is self.to_client else self.client).wake()

    def end(self) -> None:
        """End it, and tell both."""
        if self.is_open:
            self.is_open = False
            self.client.disconnected(self)
            self.server.disconnected(self)


Arrived: TypeAlias = tuple[MemoryPipe | None, Lane | None, Any]
"""A frame with its connection and the lane where it counts; or something else that is told, in its order."""


class MemoryNetwork:
    """
    What the sockets of `MemoryTransport`s meet on, in whatever loops and threads of one process they are.

    A process that is forked off begins with an empty one: there is no way between processes.
    """

    def __init__(self) -> None:
        self.empty()
        _networks.add(self)

    def empty(self) -> None:
        """Forget everybody."""
        self.lock = threading.RLock()  # over all below, and whatever is on its way
        self._bound: dict[Endpoint, MemoryInbox] = {}
        self._waiting_for_bind: dict[Endpoint, dict[MemoryInbox, None]] = {}
        self._numbers = itertools.count(1)

    def bind(self, endpoint: Endpoint, server: MemoryInbox) -> bool:
        """Let others connect to `server`; False where somebody else is bound there."""
        with self.lock:
            if self._bound.setdefault(endpoint, server) is not server:
                return False
            for client in self._waiting_for_bind.pop(endpoint, ()):
                client.wake()
            return True

    def unbind(self, endpoint: Endpoint, server: MemoryInbox) -> None:
        """Let nobody new connect there."""
        with self.lock:
            if self._bound.get(endpoint) is server:
                del self._bound[endpoint]

    def is_bound(self, endpoint: Endpoint) -> bool:
        """Return whether somebody is there."""
        with self.lock:
            return endpoint in self._bound

    def connect(self, endpoint: Endpoint, client: MemoryInbox) -> MemoryPipe | None:
        """Return a new connection; None where nobody is there."""
        with self.lock:
            server = self._bound.get(endpoint)
            if server is None:
                return None
            connection = MemoryPipe(client, server, b"\0" + next(self._numbers).to_bytes(4, "big"))
            server.connected(connection)
            return connection

    def wait_for_bind(self, endpoint: Endpoint, client: MemoryInbox) -> None:
        """Wake `client` once somebody is bound there."""
        with self.lock:
            self._waiting_for_bind.setdefault(endpoint, {})[client] = None

    def give_up(self, endpoint: Endpoint, client: MemoryInbox) -> None:
        """Take back `wait_for_bind`."""
        with self.lock:
            hoping = self._waiting_for_bind.get(endpoint, {})
            hoping.pop(client, None)
            if not hoping:
                self._waiting_for_bind.pop(endpoint, None)


_networks: weakref.WeakSet[MemoryNetwork] = weakref.WeakSet()


def _empty_all() -> None:
    for network in list(_networks):
        network.empty()


os.register_at_fork(after_in_child=_empty_all)
