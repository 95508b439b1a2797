"""What each process saw: one line an event, on disk before the process can be killed over the next one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Ledger", "Line", "go", "lines"]


class Line(NamedTuple):
    """One event as one process saw it. `at` in seconds of the host's monotonic clock, which all processes share."""

    at: float
    id: str
    key: str
    native_id: str
    deliveries: int
    ledger: str


def go() -> Path:
    """Return the file whose being there says that firing may begin."""
    return Path(os.environ["CHAOS_LEDGERS"]) / "go"


class Ledger:
    """The ledger of this process, in the directory that `CHAOS_LEDGERS` names."""

    def __init__(self, kind: str) -> None:
        name = f"{kind}.{os.environ.get('CHAOS_GROUP', 'all')}.{os.getpid()}.{time.monotonic_ns()}"
        path = Path(os.environ["CHAOS_LEDGERS"]) / name
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, id: str, key: str, native_id: str, deliveries: int = 1) -> None:
        """Note an event."""
        os.write(self._descriptor, f"{time.monotonic():.6f} {id} {key} {native_id} {deliveries}\n".encode())


def lines(directory: Path, kind: str, group: str = "all") -> Iterator[Line]:
    """Return all lines of one kind; a line that its process could not finish is left out."""
    for path in directory.glob(f"{kind}.{group}.*"):
        for line in path.read_text().splitlines(keepends=True):
            fields = line.split()
            if line.endswith("\n") and len(fields) == 5:
                yield Line(float(fields[0]), fields[1], fields[2], fields[3], int(fields[4]), path.name)
