"""Waits until one of several ZeroMQ sockets can be read, in a thread without an event loop."""

from __future__ import annotations

import select

import zmq

__all__ = ["SocketPoll"]

_EVENTS = int(zmq.EVENTS)


class SocketPoll:
    """
    Polls the descriptors of sockets, and asks only those sockets whose descriptor reported something.

    `zmq.Poller` asks each socket at every turn, which takes two system calls and more for each. A descriptor reports an
    event once, and any use of its socket may clear the report: so a socket is asked again until nothing is left. Only
    touched from the thread that uses the sockets.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._pending: set[int] = set()
        """Descriptors of sockets that may have more to read."""

    def add(self, socket: zmq.Socket[bytes]) -> None:
        """Add a socket to wait for."""
        descriptor = int(socket.FD)
        self._sockets[descriptor] = socket
        self._pending.add(descriptor)  # events before this are not reported again
        self._poll.register(descriptor, select.POLLIN)

    def add_descriptor(self, descriptor: int) -> None:
        """Add a descriptor to wait for."""
        self._poll.register(descriptor, select.POLLIN)

    def remove(self, socket: zmq.Socket[bytes]) -> None:
        """Remove a socket. Call this before the socket is closed."""
        descriptor = int(socket.FD)
        del self._sockets[descriptor]
        self._pending.discard(descriptor)
        self._poll.unregister(descriptor)

    def wait(self, milliseconds: int | None) -> list[zmq.Socket[bytes] | int]:
        """Wait up to `milliseconds`, and return the sockets and descriptors that can be read."""
        found: list[zmq.Socket[bytes] | int] = []
        for descriptor, _ in self._poll.poll(0 if self._pending else milliseconds):
            if descriptor in self._sockets:
                self._pending.add(descriptor)
            else:
                found.append(descriptor)
        for descriptor in [*self._pending]:
            socket = self._sockets[descriptor]
            if int(socket.get(_EVENTS)) & zmq.POLLIN:
                found.append(socket)
            else:
                self._pending.discard(descriptor)
        return found
