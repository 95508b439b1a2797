"""The files of a journal: their names, and whether these still lead to the files that it has open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ...config.durable_files import sync_directory
from ..host.directories import found_in
from .noted_events import NOTED

__all__ = ["JournalFiles", "file_of", "journals_in", "remove_files"]

JOURNAL = ".sqlite"
"""What the name of a journal's database ends with."""

SUFFIXES = ("", "-wal", "-shm")
"""What the names of a journal's files end with: SQLite has two files beside the database."""


def journals_in(directory: Path) -> list[Path]:
    """Return the databases of the journals in the directory of a service, by name."""
    return found_in(directory, f"*{JOURNAL}")


def file_of(directory: Path, name: str) -> Path:
    """Return the database of the journal with this name in a directory, whether it is there or not."""
    return directory / f"{name}{JOURNAL}"


def remove_files(file: Path) -> None:
    """Remove all files of the journal with this database, as far as they are there, the lock last."""
    for suffix in (*SUFFIXES, NOTED):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)


class JournalFiles:
    """The files of one journal, with their inodes when it was opened: the names should still lead to these inodes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)
        self._inodes = {suffix: os.stat(f"{path}{suffix}").st_ino for suffix in SUFFIXES}
        self._inode = self._inodes[""]

    def check(self) -> None:
        """Raise FileNotFoundError if the database was removed: SQLite would go on writing to a file nobody can open."""
        if os.stat(self._name).st_ino != self._inode:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def gone(self) -> list[str]:
        """Return the names of the files that were removed."""
        return [f"{self.path.name}{suffix}" for suffix in SUFFIXES if self._is_gone(suffix)]

    def replace_by(self, copy: Path) -> None:
        """Replace the files by a copy. Nobody may have them open."""
        for suffix in SUFFIXES[1:]:
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        copy.replace(self.path)
        sync_directory(self.path.parent)

    def remove(self) -> None:
        """Remove the files, the lock last."""
        remove_files(self.path)

    def _is_gone(self, suffix: str) -> bool:
        try:
            return os.stat(f"{self.path}{suffix}").st_ino != self._inodes[suffix]
        except FileNotFoundError:
            return True
