"""
Counts the steps of this process while something is done: in each of the measured programs, the worker among them.

What is counted is said by the variable `BENCH_METER`: counting calls costs allocations, and tracing costs wake-ups, so
each kind is counted in a run of its own. A difference of two windows leaves out what each window has once.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import lightbus

from . import allocations

__all__ = ["KINDS", "VARIABLE", "Counts", "Meter", "meter", "why_not"]

VARIABLE = "BENCH_METER"
PACKAGE = str(Path(lightbus.__file__).parent)
ATTACHED_WITHIN = 10.0

Counts = dict[str, float]
"""How many of each: `calls`, and `calls of <function>`; `allocations`; `wake_ups`; `syscalls`."""


class Meter:
    """Counts from `start` to `stop`, in every thread of this process."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Counts:
        """Return the counts since the start."""
        return {}


class Calls(Meter):
    """Counts entered functions of the package; a coroutine that resumes is entered again."""

    def __init__(self) -> None:
        self._counted: Counter[CodeType] = Counter()
        self._is_on = False
        threading.setprofile(self._note)  # of the threads that are started from now on
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        if self._is_on and event == "call":
            self._counted[frame.f_code] += 1

    def start(self) -> None:
        self._counted = Counter()
        self._is_on = True

    def stop(self) -> Counts:
        self._is_on = False
        ours = {code: count for code, count in self._counted.items() if code.co_filename.startswith(PACKAGE)}
        counts: Counts = {"calls": sum(ours.values())}
        for code, count in ours.items():
            name = f"calls of {code.co_filename[len(PACKAGE) + 1 :]}:{code.co_qualname}"
            counts[name] = counts.get(name, 0) + count
        return counts


class Memory(Meter):
    """Counts requests to Python's allocators, and how often a thread had to wait, and was woken."""

    def __init__(self) -> None:
        self._allocated: Callable[[], int] | None = None if allocations.why_not() else allocations.counter()
        self._before: Counts = {}

    def _now(self) -> Counts:
        counts: Counts = {"wake_ups": resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw}
        if self._allocated is not None:
            counts["allocations"] = self._allocated()
        return counts

    def start(self) -> None:
        self._before = self._now()

    def stop(self) -> Counts:
        now = self._now()
        return {name: count - self._before[name] for name, count in now.items()}


class Syscalls(Meter):
    """Counts system calls, libzmq's threads included: `strace` is attached in the meantime."""

    def start(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._table = Path(self._directory.name, "table")
        self._strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-c", "-o", self._table, "-p", str(os.getpid())], stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + ATTACHED_WITHIN
        while not all(_is_traced(task) for task in Path("/proc/self/task").iterdir()):
            if time.monotonic() > end or self._strace.poll() is not None:
                raise RuntimeError("strace did not attach: is ptrace allowed here?")
            time.sleep(0.01)

    def stop(self) -> Counts:
        self._strace.send_signal(signal.SIGINT)
        self._strace.wait()
        total = next(line for line in self._table.read_text().splitlines() if line.endswith(" total"))
        self._directory.cleanup()
        return {"syscalls": float(total.split()[3])}


def _is_traced(task: Path) -> bool:
    return "TracerPid:\t0\n" not in (task / "status").read_text()


KINDS: dict[str, type[Meter]] = {"calls": Calls, "memory": Memory, "syscalls": Syscalls}


def why_not(kind: str) -> str:
    """Return why something cannot be counted here; empty if it can."""
    if kind == "syscalls" and not shutil.which("strace"):
        return "there is no strace"
    return allocations.why_not() if kind == "memory" else ""


def meter() -> Meter:
    """Return the meter of this program; it counts nothing if none was requested."""
    return KINDS.get(os.environ.get(VARIABLE, ""), Meter)()
