"""
Lets libzmq accept one connection at a time at a listening socket, and the next one only when we allow it.

libzmq accepts every connection, and cannot be told to stop. When the process has no descriptor left, `accept` fails,
and on a unix socket libzmq aborts the process: EMFILE is not among the errors that `ipc_listener_t::accept` tolerates
(`errno_assert`, libzmq 4.3.5; `tcp_listener_t::accept` tolerates it, and then loops busily). Counting connections and
closing some would be too slow: a program can connect ten thousand times in a second.

So when descriptors get scarce, the listening socket is armed for one event (EPOLLONESHOT of epoll_ctl(2)) in libzmq's
epoll set, which Linux shows in /proc/self/fdinfo (proc_pid_fdinfo(5)), and armed again as long as there is room.
Further connections wait in the kernel, up to the backlog, or are turned away. Where the set is not visible (macOS),
there is no limiter.
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

# PyDLL keeps the interpreter's lock: releasing it would cost up to 5 ms while other threads compute.
_libc = ctypes.PyDLL(None)


class _EpollEvent(ctypes.Structure):
    """`struct epoll_event`, which is packed on x86-64 only."""

    _pack_ = 1 if platform.machine() in ("x86_64", "AMD64") else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class AcceptLimiter:
    """
    The limit of one listening socket of libzmq. The caller must make sure that the socket is not being closed.

    Args:
        descriptor: the descriptor of the listening socket.
        epoll: the descriptor of the epoll set that it is in.
        data: libzmq's user data for it in that set.

    """

    POSSIBLE = sys.platform == "linux"

    def __init__(self, descriptor: int, epoll: int, data: int) -> None:
        self.descriptor = descriptor
        self._epoll = epoll
        self._data = data
        self._inode = os.fstat(descriptor).st_ino

    @classmethod
    def at(cls, descriptor: int) -> AcceptLimiter | None:
        """Return the limiter for a listening socket; None if it is in no epoll set (yet), or sets are not visible."""
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
        """Let libzmq accept all connections."""
        self._arm(select.EPOLLIN)

    def accept_one(self) -> None:
        """Let libzmq accept the next connection, and then no other."""
        self._arm(select.EPOLLIN | select.EPOLLONESHOT)

    def accept_none(self) -> None:
        """Let libzmq accept no connection."""
        self._arm(0)

    def turn_away(self) -> list[str]:
        """Close the connections that wait to be accepted; return their addresses (empty: from this host)."""
        turned_away: list[str] = []
        if self._is_there():
            with suppress(OSError), socket_from_fd(self.descriptor) as listener:
                listener.setblocking(False)  # libzmq may accept one first, and handles EAGAIN itself
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
    """Return the user data of a descriptor in the epoll set `name`; None if it is not in that set."""
    with suppress(OSError):
        if os.readlink(f"{_PROC}/fd/{name}") == "anon_inode:[eventpoll]":
            with open(f"{_PROC}/fdinfo/{name}") as file:
                found = re.search(rf"^tfd:\s+{descriptor}\s.*\bdata:\s+([0-9a-f]+)", file.read(), re.MULTILINE)
            return None if found is None else int(found[1], 16)
    return None
