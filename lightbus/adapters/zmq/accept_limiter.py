"""
Lets libzmq take one connection at a time at a listening socket, and the next one only when this says so.

libzmq takes all who come, and cannot be told to stop. Where the process has no descriptor left `accept` fails, and on a
unix socket libzmq ends the process for that: EMFILE is not among the errors that `ipc_listener_t::accept` lets pass
(`errno_assert`, libzmq 4.3.5; `tcp_listener_t::accept` has it in its list, and then turns in a circle). To look how
many there are, and end some, is too slow: a program connects ten thousand times in a second.

So where room gets scarce the listening socket is armed for one event (EPOLLONESHOT of epoll_ctl(2)) in the set that
libzmq waits at, which Linux shows in /proc/self/fdinfo (proc_pid_fdinfo(5)), and armed again as long as there is room.
Those who come meanwhile wait in the kernel, up to the backlog, or are turned away. Where the set cannot be seen
(macOS), there is no limiter.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import select
import socket
import sys
from contextlib import suppress

from .socket_from_fd import socket_from_fd

__all__ = ["AcceptLimiter"]

_PROC = "/proc/self"
_EPOLL_CTL_MOD = 3

# It keeps the interpreter's lock: to give it up for a moment costs up to 5 ms where other threads compute.
_libc = ctypes.PyDLL(None)


class _EpollEvent(ctypes.Structure):
    """`struct epoll_event`, which is packed on x86-64 only."""

    _pack_ = 1 if platform.machine() in ("x86_64", "AMD64") else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class AcceptLimiter:
    """
    The limit of one listening socket of libzmq. Its user makes sure that the socket is not being closed.

    Args:
        descriptor: of the listening socket.
        epoll: descriptor of the set that it is in.
        data: by what libzmq knows it there.

    """

    POSSIBLE = sys.platform == "linux"

    def __init__(self, descriptor: int, epoll: int, data: int) -> None:
        self.descriptor = descriptor
        self._epoll = epoll
        self._data = data
        self._inode = os.fstat(descriptor).st_ino

    @classmethod
    def at(cls, descriptor: int) -> AcceptLimiter | None:
        """Return the limiter for a listening socket; None where it is not (yet) waited at, or that is not shown."""
        with suppress(OSError):
            with socket_from_fd(descriptor) as listener:
                if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return None
            for name in os.listdir(f"{_PROC}/fd"):
                data = _data_in(name, descriptor)
                if data is not None:
                    return cls(descriptor, int(name), data)
        return None

    def accept_all(self) -> None:
        """Have libzmq accept all connections."""
        self._arm(select.EPOLLIN)

    def accept_one(self) -> None:
        """Have libzmq take the next connection, and then no other."""
        self._arm(select.EPOLLIN | select.EPOLLONESHOT)

    def accept_none(self) -> None:
        """Have libzmq take none."""
        self._arm(0)

    def turn_away(self) -> list[str]:
        """End the connections that wait; return where they came from (empty: from this host)."""
        turned_away: list[str] = []
        if self._is_there():
            with suppress(OSError), socket_from_fd(self.descriptor) as listener:
                listener.setblocking(False)  # libzmq, which may be quicker, is prepared for that
                while True:
                    connection, address = listener.accept()
                    connection.close()
                    turned_away.append(str(address[0]) if isinstance(address, tuple) else "")
        return turned_away

    def _arm(self, events: int) -> None:
        if self._is_there():
            event = _EpollEvent(events, self._data)
            _libc.epoll_ctl(self._epoll, _EPOLL_CTL_MOD, self.descriptor, ctypes.byref(event))

    def _is_there(self) -> bool:
        with suppress(OSError):
            return os.fstat(self.descriptor).st_ino == self._inode
        return False


def _data_in(name: str, descriptor: int) -> int | None:
    """Return by what a descriptor is known in an epoll set, given the set's own; None where it is not in there."""
    with suppress(OSError):
        if os.readlink(f"{_PROC}/fd/{name}") == "anon_inode:[eventpoll]":
            with open(f"{_PROC}/fdinfo/{name}") as file:
                found = re.search(rf"^tfd:\s+{descriptor}\s.*\bdata:\s+([0-9a-f]+)", file.read(), re.MULTILINE)
            return None if found is None else int(found[1], 16)
    return None
