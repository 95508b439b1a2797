"""The socket of one call in one plain thread: a DEALER that waits, in slices."""

from __future__ import annotations

import zmq

from .bundles import BUNDLED, frames_of
from .compiled import compiled
from .loop_socket import EVENTS, POLLIN

__all__ = ["BlockingDealer"]

LOOK_EVERY_MS = 50
"""A blocking receive wakes so often to look whether its peer is still there."""

LOOK_EVERY = LOOK_EVERY_MS / 1000

LINGER_MS = 250
"""So long a frame that libzmq holds when the socket is closed may take to leave, the end of the process included."""


class BlockingDealer:
    """
    A DEALER for blocking calls, used by one thread at a time.

    It may pass from thread to thread where a lock lies between (zmq_socket(3): "with a full fence memory barrier"), or
    the interpreter's, as where it is put into a list by one and taken out by another.
    """

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.endpoint = endpoint
        self.was_used = False
        """Whether a frame was sent: if none can be any more, the connection broke. Or may have been: see `send`."""
        self._socket = socket
        self._send, self._receive, self._get = compiled(socket)
        self._bundled: list[bytes] = []
        """Frames that came together with one before, the next one last."""
        self._receive_timeout = LOOK_EVERY_MS
        socket.set(zmq.RCVTIMEO, LOOK_EVERY_MS)
        socket.set(zmq.SNDTIMEO, LOOK_EVERY_MS)
        socket.connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Send; False when there was no connection within 50 ms."""
        was_used, self.was_used = self.was_used, True  # first: pyzmq raises KeyboardInterrupt after libzmq has sent
        try:
            self._send(frame)
        except zmq.Again:
            self.was_used = was_used
            return False
        return True

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None when none came within 50 ms, or within `seconds` where that is less."""
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
        frame, *others = frames_of(message)  # with the answer to a call that was given up
        self._bundled.extend(reversed(others))
        return frame

    def _set_receive_timeout(self, seconds: float) -> None:
        patience = LOOK_EVERY_MS if seconds >= LOOK_EVERY else max(1, int(seconds * 1000))
        if patience != self._receive_timeout:
            self._socket.set(zmq.RCVTIMEO, patience)
            self._receive_timeout = patience

    def is_empty(self) -> bool:
        """Return whether nothing waits to be read."""
        return not self._bundled and not self._get(EVENTS) & POLLIN

    def close(self) -> None:
        """Close the socket. A CANCEL that libzmq still holds has a moment to leave."""
        self._socket.close(linger=LINGER_MS)
