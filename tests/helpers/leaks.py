"""
What a test must not leave: threads, asyncio tasks and loops, processes, sockets and other descriptors, files.

A `Snapshot` before the test and `leaked` after it; each kind is one function that describes what is there now.
Descriptors and processes are looked up in /proc, and only where there is one (Linux).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["MARK", "RESIDENT", "Snapshot", "TaskComplaints", "recorded_loops"]

MARK = "LIGHTBUS_TEST_ID"
"""The environment variable that marks a test's processes, so that they are found when their parent is gone, too."""

PATIENCE = 30.0
"""Seconds in which a thread that was told to end, or a process that was killed, must be gone."""

HARMLESS = ("/dev/null", "/dev/urandom", "/proc/")
"""Descriptors that the interpreter opens once and keeps."""

RESIDENT: set[int] = set()
"""Child processes that serve many tests, so that no single test has to end them."""

_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_PROC = Path("/proc")
_TASKS = "/proc/self/task"


@contextmanager
def recorded_loops() -> Iterator[None]:
    """Record each new event loop: asyncio itself keeps no list of them."""
    plain_init = asyncio.BaseEventLoop.__init__

    def init(loop: asyncio.BaseEventLoop) -> None:
        plain_init(loop)
        _loops.add(loop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "__init__", init)
        yield


class TaskComplaints(logging.Handler):
    """Collect asyncio's messages about tasks that were dropped while pending or whose error was not read."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record if it is such a message."""
        text = record.getMessage()
        if "never retrieved" in text or text.startswith("Task was destroyed"):
            self.found.append(text)


class Snapshot:
    """The state when the test named `mark` (the value of `MARK` in its environment) began."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._threads = weakref.WeakSet(threading.enumerate())
        self._loops = weakref.WeakSet(_loops)
        self._descriptors = _descriptors()
        self._started = _started()
        self._processes = _processes(self._mark) if self._started.alive else set()
        self._left: set[tuple[int, str]] = set()

    def leaked(self, patience: float = PATIENCE) -> list[str]:
        """Return a line for each leaked object; wait up to `patience` seconds for all to go."""
        end = time.monotonic() + patience
        while (left := self._now()) and time.monotonic() < end:
            time.sleep(0.005)
        return left

    def kill_processes(self) -> None:
        """End the processes that `leaked` named, so that they do not fail the next test."""
        for pid, _ in self._left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _now(self) -> list[str]:
        threads = [f"thread {t.name}" for t in threading.enumerate() if t not in self._threads]
        new_loops = [loop for loop in list(_loops) if loop not in self._loops]
        loops = [f"open event loop {loop!r}" for loop in new_loops if not loop.is_closed()]
        tasks = [f"pending task {task!r}" for loop in new_loops for task in asyncio.all_tasks(loop)]
        descriptors = [f"descriptor {fd} {target}" for fd, target in sorted(_descriptors() - self._descriptors)]
        return threads + loops + tasks + descriptors + self._new_processes()

    def _new_processes(self) -> list[str]:
        # Most tests start none, and reading about all of the machine takes its time.
        self._left = set() if _started() == self._started else _processes(self._mark) - self._processes
        return [f"process {pid} {line}" for pid, line in sorted(self._left)]


class _Started(NamedTuple):
    """Our children, and the resources used by those that have ended (which is never nothing)."""

    alive: frozenset[int]
    faults: int


def _started() -> _Started:
    alive: list[bytes] = []
    for task in os.listdir(_TASKS) if os.path.exists(_TASKS) else ():
        with suppress(OSError):  # the thread ended while we looked
            alive += _content(f"{_TASKS}/{task}/children").split()
    return _Started(frozenset(map(int, alive)) - RESIDENT, resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt)


def _descriptors() -> set[tuple[int, str]]:
    """Return each open descriptor with its target: a path, `socket:[inode]`, `anon_inode:[eventfd]` ..."""
    found = set()
    with suppress(FileNotFoundError):
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # the listing's own descriptor
                found.add((int(fd), os.readlink(f"/proc/self/fd/{fd}")))  # twice per test: no Path is made of it
    return {(fd, target) for fd, target in found if not target.startswith(HARMLESS)}


def _processes(mark: bytes) -> set[tuple[int, str]]:
    """Return our children, and every process with the mark in its environment, with its command line."""
    found, children = set(), _started().alive
    for name in os.listdir(_PROC) if _PROC.exists() else ():
        if name.isdigit() and (pid := int(name)) != os.getpid() and pid not in RESIDENT:
            with suppress(OSError):  # it ended while we looked, or is another user's
                if pid in children or mark in _content(f"{_PROC}/{name}/environ").split(b"\0"):
                    line = _content(f"{_PROC}/{name}/cmdline").replace(b"\0", b" ").decode(errors="replace")
                    found.add((pid, line))
    return found


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # of each process, and after each test: no Path is made
        return file.read()
