"""
A stopwatch that stops while the machine is overloaded.

A time limit in a test is about how long the library waits. It must not depend on how fast the machine is, or on what
else runs on it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Stopwatch"]

_PRESSURE = (Path("/proc/pressure/cpu"), Path("/proc/pressure/io"))
_STOLEN = 8
"""The field of /proc/stat with the time that the host gave to its other guests."""


class Stopwatch:
    """
    Seconds since it was made, without those in which any program on the machine waited for a processor or a disk.

    On systems that do not measure that (macOS), they count, too.
    """

    def __init__(self) -> None:
        self._began, self._crowded = time.monotonic(), _crowded()

    @property
    def seconds(self) -> float:
        """Return the seconds in which no process had to wait for the machine."""
        return max(0.0, self.elapsed - (_crowded() - self._crowded))

    @property
    def elapsed(self) -> float:
        """Return all seconds since it was made."""
        return time.monotonic() - self._began


def _crowded() -> float:
    """Return the seconds since the machine's start in which a process had to wait (the kernel's psi.rst)."""
    try:
        return _stolen() + sum(_some(path.read_text()) for path in _PRESSURE)
    except (OSError, ValueError, IndexError):  # not Linux, or a kernel that does not count it
        return 0.0


def _some(pressure: str) -> float:
    return int(pressure.partition("\n")[0].rpartition("total=")[2]) / 1e6


def _stolen() -> float:
    """Return the seconds for which the host gave our processors to its other guests."""
    ticks = int(Path("/proc/stat").read_text().split(maxsplit=_STOLEN + 1)[_STOLEN])
    return ticks / os.sysconf("SC_CLK_TCK")
