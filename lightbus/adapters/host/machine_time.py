"""The time of this machine: seconds that pass whatever is done to the time of day, since the machine was started.

The time of day may jump by years: a board without a battery, a virtual machine that is resumed, an operator who puts it
right. So whatever lasts, expires or is in order goes by this one. It begins anew with each start of the machine.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

__all__ = ["boot_id", "machine_time"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # of Linux: it goes on while the machine sleeps


def machine_time() -> float:
    """Return the seconds since this machine was started; the same for all of its processes."""
    return time.clock_gettime(_CLOCK)


def boot_id() -> str:
    """Return what is the same until the machine is started anew; empty where it does not tell."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii", errors="replace").strip()
    return ""
