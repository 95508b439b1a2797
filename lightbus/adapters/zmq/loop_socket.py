"""What the sockets of an event loop share: one method that reads, and one that writes.

They are read with `loop.add_reader` on the descriptor that ZeroMQ gives each socket, and pass messages to a callback.
`zmq.asyncio` is not used: a Future per frame costs more than the round trip.

The descriptor is edge-triggered (zmq_getsockopt(3), ZMQ_FD): it reports an event once, and any use of the socket may
clear the report. Hence each socket has one reader, `_readable`, which reads until nothing is left, and one writer,
`_send`, which makes the reader check again afterwards.
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
"""Frames read from one socket before the rest of the loop gets a turn."""

BURST = 0.00005
"""Seconds within which two sends belong to a burst."""


class LoopSocket:
    """The base class of sockets of an event loop. Only touched from the loop that they were made on."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.loop = asyncio.get_running_loop()
        self.dropped = 0
        """Frames that could not be sent because their receiver was gone or too far behind."""
        self._socket = socket
        self._send_part, self._receive_part, self._get = compiled(socket)
        self._descriptor = int(socket.FD)
        self._read_is_scheduled = False
        self._draining = False
        self._is_first = False
        """Whether the message being read is the first, and perhaps the only one: the answer is sent at once."""
        self._looked_at = 0.0
        self._paused = False
        self._has_missed_report = False
        """Whether the descriptor reported something while reading was paused."""
        self._reads_left = 0
        """Frames that may still be read in this turn of the loop."""
        self.loop.add_reader(self._descriptor, self._readable)

    def bind(self, endpoint: str) -> str:
        """Bind, and return the endpoint with the actual port. Raises TransportError."""
        try:
            self._socket.bind(endpoint)
        except (zmq.ZMQError, UnicodeEncodeError) as error:  # pyzmq takes no path that is not UTF-8
            is_file = endpoint.startswith("ipc://")
            port = "Is another process using it, and is the address this host's?"
            question = "May this user make files there?" if is_file else port
            raise TransportError(f"Cannot listen at {endpoint}: {error}. {question}") from error
        return self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]

    def unbind(self, endpoint: str) -> None:
        """Undo one `bind`."""
        self._socket.unbind(endpoint)

    def connect(self, endpoint: str) -> None:
        """Connect to one endpoint. Raises TransportError if the endpoint is invalid; then the socket is closed."""
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(f"Cannot connect to {endpoint}: {error}. Is the address right?") from error
        self._schedule_read()

    def close(self) -> None:
        """Close the socket; frames that libzmq has not sent are dropped."""
        if not self._socket.closed:
            self.loop.remove_reader(self._descriptor)
            self._socket.close(linger=0)

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket; libzmq may go on sending for some milliseconds (unless the context is closed)."""
        if not self._socket.closed:
            self.loop.remove_reader(self._descriptor)
            self._socket.close(linger=milliseconds)

    def abandon(self) -> None:
        """Close the socket after its loop was closed."""
        self._socket.close(linger=0)

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return bool(self._socket.closed)

    def is_empty(self) -> bool:
        """Return whether no message waits to be read."""
        if self.closed or not self._has_more():
            return True
        self._schedule_read()
        return False

    def _receive(self) -> None:
        """Read one message and pass it on; raises zmq.Again if there is none."""
        raise NotImplementedError

    def _writable(self) -> None:
        """Send what waits: the socket may be writable again."""

    def _readable(self) -> None:
        """Read until nothing is left. Nothing else receives from the socket."""
        self._read_is_scheduled = False
        if self._socket.closed:
            return
        if self._paused:
            self._has_missed_report = True
            # Else the loop would be woken again and again: the descriptor stays readable until the socket is read.
            self.loop.remove_reader(self._descriptor)
            return
        self._draining = self._is_first = True
        self._reads_left = FAIR_SHARE
        try:
            self._receive()
            self._is_first = False
            # Asking for the events costs less than half of a receive that raises zmq.Again.
            if self._has_more():
                while self._reads_left > 0:
                    self._reads_left -= 1
                    self._receive()
                self._schedule_read()
        except zmq.ZMQError as error:
            # The message may have caused this socket to be closed.
            if error.errno != zmq.EAGAIN and not self.closed:
                raise
        finally:
            self._draining = False
        if not self._socket.closed:
            if self._flush() and not self._read_is_scheduled and self._has_more():
                self._schedule_read()  # sending may have cleared the report of the descriptor
            self._writable()

    def _flush(self) -> bool:
        """Send the frames that were bundled; return whether there were any."""
        return False

    def _has_more(self) -> bool:
        """Return whether there is something to read, also if the descriptor does not report it."""
        return self._get(EVENTS) & POLLIN > 0

    def _schedule_read(self) -> None:
        if not self._read_is_scheduled:
            self._read_is_scheduled = True
            self.loop.call_soon(self._readable)

    def _send(self, frame: bytes, flags: int = NOBLOCK) -> bool:
        """Send without waiting and return whether libzmq took the frame. Nothing else sends."""
        try:
            self._send_part(frame, flags)
        except zmq.Again:
            return False
        if not self._draining and not self._read_is_scheduled:
            self._check_after_sending()
        return True

    def _check_after_sending(self) -> None:
        # Asking at once is quicker than another turn of the loop. In a burst, one turn for all sends is quicker.
        now = time.monotonic()
        is_burst = now - self._looked_at < BURST
        self._looked_at = now
        if is_burst or self._has_more():
            self._schedule_read()
