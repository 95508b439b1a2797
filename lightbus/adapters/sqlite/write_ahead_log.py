"""The write-ahead log of a journal: written back into its file now and then, off the way of those who write."""

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
"""Bytes from which on it is said that somebody keeps it from being written back."""

LARGE = 16 * 1024 * 1024
"""Bytes above which its file is cut down again."""


class WriteAheadLog:
    """The write-ahead log of one journal, and the events that are noted beside it."""

    def __init__(self, path: Path) -> None:
        self.noted = NotedEvents(path)
        """What is ahead of the tables in a file of ours."""
        self._path = path
        self._is_grown = False
        """Whether it was said that it grows."""

    @property
    def size(self) -> int:
        """How many bytes it has."""
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0

    @property
    def is_large(self) -> bool:
        """Whether it is to be written back rather now than later."""
        return self.size > LARGE

    def write_back(self, connection: sqlite3.Connection, writing: AbstractContextManager[Any]) -> None:
        """
        Write it back as far as readers from outside allow, waiting for nobody, nor does a commit wait for that.

        Only where all is written back it is cut down, with the writing lock held for that moment.
        """
        size = self.size
        if size:
            _, frames, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if size > LARGE and frames == done:
                with writing:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def warn_if_grown(self) -> None:
        """Say, once, that somebody keeps it from being written back."""
        size = self.size
        if size > GROWN and not self._is_grown:
            logger.warning(
                "The log of the journal %s has grown to %d MiB: another program has been reading the journal for long "
                "(a backup, a database browser?). Nothing waits for it but the disk; the log is cut down once it ends.",
                self._path, size // 2**20,
            )  # fmt: skip
        self._is_grown = size > (LARGE if self._is_grown else GROWN)
