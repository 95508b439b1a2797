"""The state of the connection of a socket, as libzmq reports it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from ...ports.transport import LinkState
from .loop_socket import NOBLOCK

__all__ = ["Monitor"]

_STATES: dict[int, LinkState] = {
    zmq.EVENT_CONNECTED: LinkState.REACHED,
    zmq.EVENT_HANDSHAKE_SUCCEEDED: LinkState.CONNECTED,
    zmq.EVENT_DISCONNECTED: LinkState.DISCONNECTED,
    zmq.EVENT_CLOSED: LinkState.REFUSED,
    zmq.EVENT_CONNECT_RETRIED: LinkState.REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: LinkState.HANDSHAKE_FAILED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: LinkState.DENIED,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: LinkState.DENIED,
}

_ALL = sum(_STATES)
"""The events that libzmq is asked to report: each is a bit."""

_CLOSED_BY_PEER = (errno.EPIPE, errno.ECONNRESET)


class Monitor:
    """
    Reports the state of the one connection of a socket. Only touched from the loop that it was made on.

    Args:
        socket: the watched socket; stop the monitor before closing the socket.
        on_state: called with each change.

    Attributes:
        may_want_key: whether the other end may break off the handshake because there is no common key.

    """

    def __init__(self, socket: zmq.Socket[bytes], on_state: Callable[[LinkState], None]) -> None:
        self.may_want_key = True
        self._on_state = on_state
        self._handshaken = False
        self._socket = socket
        self._monitor: zmq.Socket[bytes] | None = socket.get_monitor_socket(_ALL)
        self._descriptor = int(self._monitor.FD)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)
        self._loop.call_soon(self._read)

    def stop(self, *, abandoned: bool = False) -> None:
        """Stop reporting. `abandoned`: the loop is closed."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            if not abandoned:
                self._loop.remove_reader(self._descriptor)
            # In this order, and not with `disable_monitor`: while libzmq has an event for a monitor that nobody reads,
            # its thread waits for ever, and all connections with it.
            with contextlib.suppress(zmq.ZMQError):
                self._socket.monitor(None, 0)
            monitor.close(linger=0)

    def _read(self) -> None:
        while self._monitor is not None:
            try:
                parts = self._monitor.recv_multipart(NOBLOCK)
            except zmq.ZMQError:
                return
            message = parse_monitor_message(parts)
            state = _STATES.get(int(message["event"]))
            if state is not None:
                self._on_state(self._reported_as(state, int(message["value"])))

    def _reported_as(self, state: LinkState, value: int) -> LinkState:
        """Return DENIED for a handshake that the peer broke off: one with another key can report no more than that."""
        if state is LinkState.CONNECTED:
            self._handshaken = True
        closed = state is LinkState.HANDSHAKE_FAILED and value in _CLOSED_BY_PEER
        broken_off = state is LinkState.DISCONNECTED and not self._handshaken
        denied = state is LinkState.DENIED or closed or broken_off
        if denied and self.may_want_key:
            return LinkState.DENIED
        return LinkState.HANDSHAKE_FAILED if state is LinkState.DENIED else state
