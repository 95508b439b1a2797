"""One bound socket, as its monitor reports it: the peers of its connections, and which new connections it accepts."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from enum import Enum

from .accept_limiter import AcceptLimiter
from .socket_from_fd import socket_from_fd

__all__ = ["NOT_SEEN", "OF_THIS_HOST", "AcceptMode", "WatchedSocket"]

LIMITER_WAIT = 0.001
LIMITER_TRIES = 200
"""Seconds between tries, and number of tries, to find a socket in libzmq's epoll set: another thread adds it there."""

NOT_SEEN = "from a peer that was gone at once"
OF_THIS_HOST = "from this host"


class AcceptMode(Enum):
    """Which new connections are accepted."""

    ALL = "all"
    ONE_AT_A_TIME = "one, and the next when that one is known"
    NONE = "none"


class WatchedSocket:
    """
    What the monitor of one socket has reported: the peer of each descriptor, and why the latest handshake failed.

    The gate's thread uses it; other threads only call `stops_listening` and `end`.
    """

    def __init__(self) -> None:
        self.failed = ""
        self._addresses: dict[int, str] = {}
        self._turned_away: set[int] = set()
        self._limiters: dict[str, AcceptLimiter] = {}
        """By endpoint."""
        self._is_ended = False
        # Guards the limiters: before a listening socket is closed, its limiter must be out of use.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._addresses)

    def listens(self, descriptor: int, endpoint: str, mode: AcceptMode) -> None:
        """Record that the socket now listens at an endpoint, too."""
        for _ in range(LIMITER_TRIES):
            with self._lock:
                if self._is_ended or not _is_at(descriptor, endpoint):
                    return
                if (limiter := AcceptLimiter.at(descriptor)) is not None:
                    self._limiters[endpoint] = limiter
                    _set(limiter, mode)
                    return
            if not AcceptLimiter.POSSIBLE:
                return
            time.sleep(LIMITER_WAIT)

    def stops_listening(self, endpoint: str) -> None:
        """Use the listening socket of an endpoint no more."""
        with self._lock:
            self._limiters.pop(endpoint, None)

    def end(self) -> None:
        """Use no listening socket any more."""
        with self._lock:
            self._is_ended = True
            self._limiters.clear()

    def set_accept_mode(self, mode: AcceptMode) -> None:
        """Set which new connections are accepted."""
        with self._lock:
            for limiter in self._limiters.values():
                _set(limiter, mode)

    def turn_away(self) -> list[str]:
        """Close the connections that wait to be accepted; return their addresses."""
        with self._lock:
            return [address for limiter in self._limiters.values() for address in limiter.turn_away()]

    def accepted(self, descriptor: int, endpoint: str, *, is_full: bool) -> None:
        """Record a connection; shut it down if the gate `is_full`."""
        self._addresses[descriptor] = NOT_SEEN
        with suppress(OSError), socket_from_fd(descriptor) as connection:
            peer = connection.getpeername()
            self._addresses[descriptor] = f"from {peer[0]}" if isinstance(peer, tuple) else OF_THIS_HOST
            # The descriptor may belong to another connection by now: make sure that it is one of this socket.
            if is_full and _is_at(descriptor, endpoint):
                self._turned_away.add(descriptor)
                connection.shutdown(socket.SHUT_RDWR)

    def disconnected(self, descriptor: int) -> tuple[str, str]:
        """Return why the connection was refused (empty: it was not), and where it came from."""
        # One thread of libzmq reports for a socket: a failed handshake comes right before the end of its connection.
        reason, self.failed = self.failed, ""
        if descriptor in self._turned_away:
            self._turned_away.remove(descriptor)
            reason = "too_many"
        return reason, self._addresses.pop(descriptor, NOT_SEEN)


def _set(limiter: AcceptLimiter, mode: AcceptMode) -> None:
    if mode is AcceptMode.ALL:
        limiter.accept_all()
    elif mode is AcceptMode.ONE_AT_A_TIME:
        limiter.accept_one()
    else:
        limiter.accept_none()


def _is_at(descriptor: int, endpoint: str) -> bool:
    """Return whether a descriptor is a socket that is bound to an endpoint, or was accepted at it."""
    with suppress(OSError), socket_from_fd(descriptor) as found:
        name = found.getsockname()
        return endpoint.endswith(f":{name[1]}") if isinstance(name, tuple) else endpoint == f"ipc://{name}"
    return False
