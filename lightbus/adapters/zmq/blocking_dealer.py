"""The socket of one call in one plain thread: a DEALER that waits in short slices."""

from __future__ import annotations

import zmq

from .bundles import BUNDLED, frames_of
from .compiled import compiled
from .loop_socket import EVENTS, POLLIN

__all__ = ["BlockingDealer"]

LOOK_EVERY_MS = 50
"""Milliseconds after which a blocking receive returns to check whether its peer is still there."""

LOOK_EVERY = LOOK_EVERY_MS / 1000

LINGER_MS = 250
"""Milliseconds for which libzmq may go on sending after the socket is closed, also at the end of the process."""


class BlockingDealer:
    """
    A DEALER for blocking calls, used by one thread at a time.

    It may move from one thread to another with a lock in between (zmq_socket(3): "with a full fence memory barrier");
    the interpreter's lock is enough, for example when one thread appends it to a list and another removes it.
    """

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.endpoint = endpoint
        self.was_used = False
        """Whether a frame was, or may have been, sent: if sending fails later, the connection broke."""
        self._socket = socket
        self._send, self._receive, self._get = compiled(socket)
        self._bundled: list[bytes] = []
        """Frames of a bundle that are still to be returned, the next one last."""
        self._receive_timeout = LOOK_EVERY_MS
        socket.set(zmq.RCVTIMEO, LOOK_EVERY_MS)
        socket.set(zmq.SNDTIMEO, LOOK_EVERY_MS)
        socket.connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Send a frame; return False if there was no connection within 50 ms."""
        was_used, self.was_used = self.was_used, True  # first: pyzmq may raise KeyboardInterrupt after libzmq has sent
        try:
            self._send(frame)
        except zmq.Again:
            self.was_used = was_used
            return False
        return True

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None if none arrived within 50 ms, or within `seconds` if that is less."""
        if self._bundled:
            return self._bundled.pop()
        if seconds < LOOK_EVERY or self._receive_timeout != LOOK_EVERY_MS:
            self._set_receive_timeout(seconds)
        try:
            message: bytes = self._receive()
        except zmq.Again:
            return None
        if message[:1] != BUNDLED:
            return message
        frame, *others = frames_of(message)  # several if an earlier call was given up, and its answer comes now
        self._bundled.extend(reversed(others))
        return frame

    def _set_receive_timeout(self, seconds: float) -> None:
        patience = LOOK_EVERY_MS if seconds >= LOOK_EVERY else max(1, int(seconds * 1000))
        if patience != self._receive_timeout:
            self._socket.set(zmq.RCVTIMEO, patience)
            self._receive_timeout = patience

    def is_empty(self) -> bool:
        """Return whether no frame waits to be read."""
        return not self._bundled and not self._get(EVENTS) & POLLIN

    def close(self) -> None:
        """Close the socket. libzmq has `LINGER_MS` to send a CANCEL that it still holds."""
        self._socket.close(linger=LINGER_MS)
