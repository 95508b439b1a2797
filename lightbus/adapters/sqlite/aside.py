"""Databases that are damaged: they are put aside, under a name that says so, and never written again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from .noted_events import NOTED

__all__ = ["aside_sentences", "is_damage", "put_aside"]

MARK = ".corrupt-"
MAX_TOLD = 100


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error says that a database is damaged, and not that it cannot be used at the moment."""
    return isinstance(error, (sqlite3.Error, TypeError, ValueError)) and not isinstance(error, sqlite3.OperationalError)


def put_aside(file: Path) -> Path:
    """Give a database, and the files beside it, a name that nobody uses, and return that. Raises OSError."""
    number = 1
    while (aside := file.with_name(f"{file.name}{MARK}{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", "-journal", NOTED, ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{aside}{suffix}")
    return aside


def aside_sentences(directory: Path, host: str) -> list[str]:
    """Return a sentence about each database of a bus on this host that was put aside, at most a hundred of them."""
    return [
        f"{file} on {host} was damaged and is put aside: what is in it is not delivered. "
        f"`sqlite3 {file} .recover` may read some of it; remove it, or move it elsewhere, once you are done with it."
        for _, file in zip(range(MAX_TOLD), _asides(directory), strict=False)
    ]


def _asides(directory: Path) -> Iterator[Path]:
    for pattern in (f"*{MARK}*", f"*/*{MARK}*"):
        yield from sorted(file for file in directory.glob(pattern) if file.name.rpartition("-")[2].isdigit())
