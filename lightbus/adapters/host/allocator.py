"""How the C library keeps memory, for processes that are ours alone: workers, and servers of pages."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

__all__ = ["keep_freed_memory", "release_freed_memory", "share_heaps"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
ARENAS = 2
"""Heaps between which glibc divides the threads: each of them keeps memory that was freed, and it has 16 by default."""

KEPT = 64 * 1024 * 1024
"""Bytes that may stay with the process after they were freed."""


def keep_freed_memory() -> bool:
    """
    Have glibc keep what was freed for the next message, and not give it back to the kernel; return whether it does.

    A large message passes through half a dozen buffers. By default each is given back at once and faulted in again
    page by page for the next message, which costs several times as much as everything else that is done with it
    (mallopt(3); docs/architecture/measurements.md has the figures). Not done in a process that is not ours to tune.
    """
    return _set({_M_MMAP_THRESHOLD: KEPT, _M_TRIM_THRESHOLD: KEPT, _M_ARENA_MAX: ARENAS})


def share_heaps() -> bool:
    """
    Have the threads that begin from now on share two heaps; return whether they do.

    For a program that runs for long and has threads come and go, as a dashboard does: each gets a heap of its own until
    there are 16 (8 for a processor), and each heap keeps what was once needed there.
    """
    return _set({_M_ARENA_MAX: ARENAS})


def release_freed_memory() -> bool:
    """
    Give back to the kernel what was freed and is kept; return whether there was anything.

    glibc gives back by itself what is free at the end of a heap only. What a client with a hundred connections had lies
    in between what goes on, and stays with a process though nothing needs it (malloc_trim(3)).
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):
        return False


def _set(options: Mapping[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    return all(mallopt(option, value) for option, value in options.items())
