"""How the C library keeps freed memory, for our own processes: workers, and the servers of web pages."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

__all__ = ["keep_freed_memory", "release_freed_memory", "share_heaps"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
ARENAS = 2
"""Heaps that glibc divides threads between, by default up to 16: each heap keeps memory that was freed."""

KEPT = 64 * 1024 * 1024
"""Bytes that the process may keep after they were freed."""


def keep_freed_memory() -> bool:
    """
    Have glibc keep freed memory for the next message, and not return it to the kernel; return whether it does.

    A large message passes through half a dozen buffers. By default each is returned at once and faulted in again page
    by page for the next message, which costs several times as much as all other work on it (mallopt(3);
    docs/architecture/measurements.md has the figures). Only for our own processes: others are not ours to tune.
    """
    return _set({_M_MMAP_THRESHOLD: KEPT, _M_TRIM_THRESHOLD: KEPT, _M_ARENA_MAX: ARENAS})


def share_heaps() -> bool:
    """
    Have threads that start from now on share two heaps; return whether they do.

    For a long-running program whose threads come and go, like the dashboard: each thread gets a heap of its own until
    there are 16 (8 per processor), and each heap keeps the memory that was once needed there.
    """
    return _set({_M_ARENA_MAX: ARENAS})


def release_freed_memory() -> bool:
    """
    Return kept memory to the kernel; return whether there was any.

    By itself, glibc only returns free memory at the end of a heap. Memory that a client with a hundred connections had
    lies between blocks still in use, and stays with the process though nothing needs it (malloc_trim(3)).
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
