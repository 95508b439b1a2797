"""The record of each process: one line per event, on disk before the process can be killed at the next one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Ledger", "Line", "go", "lines"]


class Line(NamedTuple):
    """One event in the record of a process; `at` is in seconds of the host's monotonic clock, which all share."""

    at: float
    id: str
    key: str
    native_id: str
    deliveries: int
    ledger: str


def go() -> Path:
    """Return the file that allows firing as soon as it exists."""
    return Path(os.environ["CHAOS_LEDGERS"]) / "go"


class Ledger:
    """The record of this process, in the directory that `CHAOS_LEDGERS` names."""

    def __init__(self, kind: str) -> None:
        name = f"{kind}.{os.environ.get('CHAOS_GROUP', 'all')}.{os.getpid()}.{time.monotonic_ns()}"
        path = Path(os.environ["CHAOS_LEDGERS"]) / name
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, id: str, key: str, native_id: str, deliveries: int = 1) -> None:
        """Record an event."""
        os.write(self._descriptor, f"{time.monotonic():.6f} {id} {key} {native_id} {deliveries}\n".encode())


def lines(directory: Path, kind: str, group: str = "all") -> Iterator[Line]:
    """Return all lines of one kind; an unfinished line of a killed process is left out."""
    for path in directory.glob(f"{kind}.{group}.*"):
        for line in path.read_text().splitlines(keepends=True):
            fields = line.split()
            if line.endswith("\n") and len(fields) == 5:
                yield Line(float(fields[0]), fields[1], fields[2], fields[3], int(fields[4]), path.name)
