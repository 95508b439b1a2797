"""Waits until something can be read from one of several sockets of ZeroMQ: for a thread that has no event loop."""

from __future__ import annotations

import select

import zmq

__all__ = ["SocketPoll"]

_EVENTS = int(zmq.EVENTS)


class SocketPoll:
    """
    Waits at the descriptors of sockets, and asks only those that have reported something.

    `zmq.Poller` asks each socket at every turn, which takes two system calls and more for each. A descriptor tells
    once, and any use of its socket may swallow that: so a socket is asked again until nothing is left. Only touched
    from the thread that uses the sockets.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._pending: set[int] = set()
        """From which there may be more to read."""

    def add(self, socket: zmq.Socket[bytes]) -> None:
        """Wait for a socket, too."""
        descriptor = int(socket.FD)
        self._sockets[descriptor] = socket
        self._pending.add(descriptor)  # what happened before is not told any more
        self._poll.register(descriptor, select.POLLIN)

    def add_descriptor(self, descriptor: int) -> None:
        """Wait for a descriptor, too."""
        self._poll.register(descriptor, select.POLLIN)

    def remove(self, socket: zmq.Socket[bytes]) -> None:
        """Wait for a socket no more. To be called before it is closed."""
        descriptor = int(socket.FD)
        del self._sockets[descriptor]
        self._pending.discard(descriptor)
        self._poll.unregister(descriptor)

    def wait(self, milliseconds: int | None) -> list[zmq.Socket[bytes] | int]:
        """Return which sockets have a message, and which descriptors something to read; after so long, whatever is."""
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
