"""Damaged databases: they are renamed, to a name that says so, and never written again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..host.directories import found_in
from .noted_events import NOTED

__all__ = ["is_damage", "quarantine", "quarantine_sentences"]

MARK = ".corrupt-"
MAX_LISTED = 100


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error says that a database is damaged, and not only unusable at the moment."""
    return isinstance(error, (sqlite3.Error, TypeError, ValueError)) and not isinstance(error, sqlite3.OperationalError)


def quarantine(file: Path) -> Path:
    """Rename a database and the files beside it to an unused name, and return that name. Raises OSError."""
    number = 1
    while (renamed := file.with_name(f"{file.name}{MARK}{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", "-journal", NOTED, ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{renamed}{suffix}")
    return renamed


def quarantine_sentences(directory: Path, host: str) -> list[str]:
    """Return a sentence about each quarantined database of a bus on this host, at most a hundred of them."""
    return [
        f"{file} on {host} was damaged and is quarantined under this name: what is in it is not delivered. "
        f"`sqlite3 {file} .recover` may read some of it; remove it, or move it elsewhere, once you are done with it."
        for _, file in zip(range(MAX_LISTED), _quarantined(directory), strict=False)
    ]


def _quarantined(directory: Path) -> Iterator[Path]:
    for pattern in (f"*{MARK}*", f"*/*{MARK}*"):
        yield from (file for file in found_in(directory, pattern) if file.name.rpartition("-")[2].isdigit())
