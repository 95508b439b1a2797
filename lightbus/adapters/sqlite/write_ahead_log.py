"""The write-ahead log of a journal: written back into its file now and then, without a writer waiting for that."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .noted_events import NotedEvents

__all__ = ["WriteAheadLog"]

logger = logging.getLogger("lightbus.journal")

GROWN = 64 * 1024 * 1024
"""Bytes above which a warning says that another program prevents the log from being written back."""

LARGE = 16 * 1024 * 1024
"""Bytes above which the file of the log is truncated once it is written back."""


class WriteAheadLog:
    """The write-ahead log of one journal, and the events noted beside its tables."""

    def __init__(self, path: Path) -> None:
        self.noted = NotedEvents(path)
        """The events in a file of our own that are not yet in the tables."""
        self._path = path
        self._is_grown = False
        """Whether the warning about its size has been logged."""

    @property
    def size(self) -> int:
        """The size of the log in bytes."""
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0

    @property
    def is_large(self) -> bool:
        """Whether the log should be written back now and not later."""
        return self.size > LARGE

    def write_back(self, connection: sqlite3.Connection, writing: AbstractContextManager[Any]) -> None:
        """
        Write the log back as far as readers in other programs allow. It waits for nobody, and no commit waits for it.

        Only when all of it is written back is the log truncated, with the writing lock held for that moment.
        """
        size = self.size
        if size:
            _, frames, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if size > LARGE and frames == done:
                with writing:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def warn_if_grown(self) -> None:
        """Log a warning, once, if another program prevents the log from being written back."""
        size = self.size
        if size > GROWN and not self._is_grown:
            logger.warning(
                "The log of the journal %s has grown to %d MiB: another program has been reading the journal for long "
                "(a backup, a database browser?). It only takes disk space, and is truncated once that program ends.",
                self._path, size // 2**20,
            )  # fmt: skip
        self._is_grown = size > (LARGE if self._is_grown else GROWN)
