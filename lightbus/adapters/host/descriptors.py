"""The limit of descriptors (open files and sockets) of this process, and how many are left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys

__all__ = [
    "FOR_OTHERS",
    "connection_limit",
    "descriptor_limit",
    "descriptors_left",
    "hard_descriptor_limit",
    "has_free_descriptors",
    "raise_descriptor_limit",
]

FOR_OTHERS = 256
"""Descriptors reserved for the rest of the process; of a small limit, half."""

LEFT_FREE = 32
"""Descriptors that connections never take, however the others are used; of a small limit, an eighth."""

# PyDLL keeps the interpreter's lock: releasing it would cost up to 5 ms while other threads compute.
_libc = ctypes.PyDLL(None)


def descriptor_limit() -> int:
    """Return how many descriptors this process may have (`ulimit -n`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def hard_descriptor_limit() -> int:
    """Return how many descriptors this process may have after raising its limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def connection_limit(limit: int) -> int:
    """Return how many connections at a time a process with this limit of descriptors accepts."""
    return limit if limit == sys.maxsize else max(limit - FOR_OTHERS, limit // 2)


def raise_descriptor_limit() -> tuple[int, int]:
    """
    Raise the soft limit of this process to its hard limit, as every process may; return the limits before and after.

    Only for our own processes: a program that calls `select` cannot use descriptors from 1024 on.
    """
    before = descriptor_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has a system limit below an infinite hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return before, descriptor_limit()


def has_free_descriptors(count: int = 1) -> bool:
    """Return whether this process can open so many files at the moment."""
    taken = [descriptor for _ in range(count) if (descriptor := _take()) >= 0]
    for each in taken:
        _libc.close(each)
    return len(taken) == count


def descriptors_left() -> int:
    """
    Return how many further descriptors connections may take.

    The number comes from the lowest free descriptor: it is too high when a low number is free and higher ones are in
    use, at most by those. It takes some microseconds.
    """
    # The kernel returns the lowest free number: it shows how full the table is, without counting.
    lowest = _take()
    if lowest < 0:
        return 0
    _libc.close(lowest)
    limit = descriptor_limit()
    return max(0, limit - min(LEFT_FREE, limit // 8) - lowest)


def _take() -> int:
    """Return a new descriptor, below 0 if there is none. A process in a root directory of its own may have no /dev."""
    if sys.platform == "linux":
        return int(_libc.eventfd(0, os.O_CLOEXEC))
    return int(_libc.open(os.fsencode(os.devnull), os.O_RDONLY | os.O_CLOEXEC))
