"""What the sockets of an event loop share: one reader, and one writer.

They are read with `loop.add_reader` on the descriptor that ZeroMQ gives each socket, and call back with what arrived.
`zmq.asyncio` is not used: a Future per frame costs more than the round trip.

The descriptor is edge-triggered (zmq_getsockopt(3), ZMQ_FD): it tells once that something happened, and any use of the
socket may swallow that. Hence each socket has one reader, `_readable`, which drains until nothing is left, and one
writer, `_send`, which has the reader look again afterwards.
"""

from __future__ import annotations

import asyncio
import time

import zmq

from ...exceptions import TransportError
from .compiled import compiled

__all__ = ["BURST", "EVENTS", "NOBLOCK", "POLLIN", "LoopSocket"]

# Plain ints: an IntFlag or enum member costs pyzmq a conversion per call.
NOBLOCK = int(zmq.NOBLOCK)
EVENTS = int(zmq.EVENTS)
POLLIN = int(zmq.POLLIN)

FAIR_SHARE = 256
"""Frames read from one socket before the rest of the loop gets its turn."""

BURST = 0.00005
"""Seconds within which two sends belong to a burst."""


class LoopSocket:
    """What the sockets of an event loop share. Only touched from the loop that they were made on."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.loop = asyncio.get_running_loop()
        self.dropped = 0
        """Frames that could not be sent since their receiver was gone or too far behind."""
        self._socket = socket
        self._send_part, self._receive_part, self._get = compiled(socket)
        self._descriptor = int(socket.FD)
        self._look_again_is_due = False
        self._draining = False
        self._is_alone = False
        """Whether the message being read is the first, and perhaps the only one: the answer to it is sent at once."""
        self._looked_at = 0.0
        self._paused = False
        self._is_overdue = False
        """Whether there was something to look at while it was paused."""
        self._left = 0
        """Frames that are still to be read in this turn of the loop."""
        self.loop.add_reader(self._descriptor, self._readable)

    def bind(self, endpoint: str) -> str:
        """Bind, and return the endpoint with the port that was chosen. Raises TransportError."""
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            is_file = endpoint.startswith("ipc://")
            port = "Is another process using it, and is the address this host's?"
            question = "May this user make files there?" if is_file else port
            raise TransportError(f"Cannot listen at {endpoint}: {error}. {question}") from error
        return self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]

    def unbind(self, endpoint: str) -> None:
        """Take back one `bind`."""
        self._socket.unbind(endpoint)

    def connect(self, endpoint: str) -> None:
        """Connect to one endpoint. Raises TransportError where it cannot even be tried; the socket is closed then."""
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(f"Cannot connect to {endpoint}: {error}. Is the address right?") from error
        self._look_again()

    def close(self) -> None:
        """Close the socket; frames that libzmq still holds are dropped."""
        if not self._socket.closed:
            self.loop.remove_reader(self._descriptor)
            self._socket.close(linger=0)

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket; libzmq keeps sending what it holds for so many seconds (until the context is closed)."""
        if not self._socket.closed:
            self.loop.remove_reader(self._descriptor)
            self._socket.close(linger=milliseconds)

    def abandon(self) -> None:
        """Close the socket of a loop that was closed before it."""
        self._socket.close(linger=0)

    @property
    def closed(self) -> bool:
        """Whether the socket was closed."""
        return bool(self._socket.closed)

    def is_empty(self) -> bool:
        """Return whether nothing waits to be read."""
        if self.closed or not self._has_more():
            return True
        self._look_again()
        return False

    def _receive(self) -> None:
        """Read one message and hand it on; raises zmq.Again when there is none."""
        raise NotImplementedError

    def _writable(self) -> None:
        """The socket may be able to send again."""

    def _readable(self) -> None:
        """Read until nothing is left. The only place that receives."""
        self._look_again_is_due = False
        if self._socket.closed:
            return
        if self._paused:
            self._is_overdue = True
            return
        self._draining = self._is_alone = True
        self._left = FAIR_SHARE
        try:
            self._receive()
            self._is_alone = False
            # Asking whether there is more costs less than half of what it costs to be told that there is not.
            if self._has_more():
                while self._left > 0:
                    self._left -= 1
                    self._receive()
                self._look_again()
        except zmq.ZMQError as error:
            # What arrived may have led to our being closed.
            if error.errno != zmq.EAGAIN and not self.closed:
                raise
        finally:
            self._draining = False
        if not self._socket.closed:
            if self._flush() and not self._look_again_is_due and self._has_more():
                self._look_again()  # sending may have swallowed what would have told us
            self._writable()

    def _flush(self) -> bool:
        """Send what was kept to be sent together; return whether there was anything."""
        return False

    def _has_more(self) -> bool:
        """Return whether there is something to read. Only this may show it: the descriptor may not report it."""
        return self._get(EVENTS) & POLLIN > 0

    def _look_again(self) -> None:
        if not self._look_again_is_due:
            self._look_again_is_due = True
            self.loop.call_soon(self._readable)

    def _send(self, frame: bytes, flags: int = NOBLOCK) -> bool:
        """Send without waiting and return whether it was taken. The only place that sends."""
        try:
            self._send_part(frame, flags)
        except zmq.Again:
            return False
        if not self._draining and not self._look_again_is_due:
            self._look_after_sending()
        return True

    def _look_after_sending(self) -> None:
        # Asking at once is quicker than another turn of the loop. In a burst, one turn for all of it is.
        now = time.monotonic()
        is_burst = now - self._looked_at < BURST
        self._looked_at = now
        if is_burst or self._has_more():
            self._look_again()
