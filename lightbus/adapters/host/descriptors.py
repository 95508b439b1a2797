"""How many descriptors (open files and sockets) this process may have, and whether there is room for more."""

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
    "raise_descriptor_limit",
]

FOR_OTHERS = 256
"""Descriptors that are left for whatever else the process does; of a small limit, half."""

LEFT_FREE = 32
"""Descriptors that no connection takes, whatever the others are used for; of a small limit, an eighth."""

# It keeps the interpreter's lock: to give it up for a moment costs up to 5 ms where other threads compute.
_libc = ctypes.PyDLL(None)


def descriptor_limit() -> int:
    """Return how many descriptors this process may have (`ulimit -n`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def hard_descriptor_limit() -> int:
    """Return how many descriptors a process of this user may have once it has raised its limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def connection_limit(limit: int) -> int:
    """Return how many connections others may have at a time to a process with this limit of descriptors."""
    return limit if limit == sys.maxsize else max(limit - FOR_OTHERS, limit // 2)


def raise_descriptor_limit() -> tuple[int, int]:
    """
    Raise this process's soft limit to its hard one, as every process may; return the limit before and after.

    Only for a process that is ours: a program that calls `select` cannot use descriptors from 1024 on.
    """
    before = descriptor_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has a limit of the system's below an infinite hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return before, descriptor_limit()


def descriptors_left() -> int:
    """
    Return how many further descriptors connections may take.

    It may be too few where a low number happens to be free and higher ones are, too; never too many by more than the
    process has taken beyond `LEFT_FREE`. It takes some microseconds.
    """
    # The kernel gives the lowest number that is free: that says how full the table is, without counting.
    lowest: int = _libc.open(os.fsencode(os.devnull), os.O_RDONLY | os.O_CLOEXEC)
    if lowest < 0:
        return 0
    _libc.close(lowest)
    limit = descriptor_limit()
    return max(0, limit - min(LEFT_FREE, limit // 8) - lowest)
