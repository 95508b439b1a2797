"""The read lock of a connection that commits again and again: kept from one commit to the next, for a moment."""

from __future__ import annotations

import sqlite3

__all__ = ["ReadLock"]


class ReadLock:
    """
    Keeps what each commit would take first and give back last: four of its ten system calls.

    A statement that reads, and is not done yet, has SQLite keep it. What is written meanwhile is committed all the
    same, statement by statement. While it is kept nobody can cut down the write-ahead log, nor write the journal anew:
    it is released soon, and before that. With the writing lock held.
    """

    def __init__(self) -> None:
        self._statement: sqlite3.Cursor | None = None

    def keep(self, connection: sqlite3.Connection) -> None:
        """Keep it from now on. Raises sqlite3.Error."""
        if self._statement is None:
            self._statement = connection.execute("SELECT 1 FROM about")

    def release(self) -> None:
        """Give it back."""
        if self._statement is not None:
            self._statement.close()
            self._statement = None
