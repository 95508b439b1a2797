"""
A stopwatch that stands still while the machine has more to do than it can: bounds of time are promises about how long
we wait, and not about how fast a machine is, or how much else runs on it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Stopwatch"]

_PRESSURE = (Path("/proc/pressure/cpu"), Path("/proc/pressure/io"))
_STOLEN = 8
"""The word of /proc/stat that counts the time of other guests."""


class Stopwatch:
    """
    Seconds since it was made, without those in which any program on the machine waited for a processor or a disk.

    Where the kernel does not tell (macOS) these count, too.
    """

    def __init__(self) -> None:
        self._began, self._crowded = time.monotonic(), _crowded()

    @property
    def seconds(self) -> float:
        """Return the seconds in which no process had to wait for the machine."""
        return max(0.0, self.elapsed - (_crowded() - self._crowded))

    @property
    def elapsed(self) -> float:
        """All seconds."""
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
    """Return the seconds for which other guests of the host had our processors."""
    ticks = int(Path("/proc/stat").read_text().split(maxsplit=_STOLEN + 1)[_STOLEN])
    return ticks / os.sysconf("SC_CLK_TCK")
