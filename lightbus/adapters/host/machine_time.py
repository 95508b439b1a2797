"""The time of this machine: seconds since the machine was started, unaffected by changes of the time of day.

The time of day may jump by years: on a board without a battery, in a resumed virtual machine, or when an operator
corrects it. So durations, expiry and order are measured by this time. It starts at 0 with each start of the machine.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

__all__ = ["boot_id", "machine_time"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # on Linux: includes the time while the machine sleeps


def machine_time() -> float:
    """Return the seconds since this machine was started; equal for all of its processes."""
    return time.clock_gettime(_CLOCK)


def boot_id() -> str:
    """Return an id that changes with each start of the machine; empty if the system has none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii", errors="replace").strip()
    return ""
