"""The tables of a journal, and the upgrade of journals of earlier versions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from ...exceptions import JournalError

__all__ = ["make_or_upgrade"]

APPLICATION_ID = 0x4C427573
"""SQLite's application id of a journal: "LBus"."""

VERSION = 3

_STARTS = "CREATE TABLE IF NOT EXISTS starts (grp, topic, sequence, asker, number, PRIMARY KEY (grp, topic))"
_TABLES = """
    CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY, api TEXT NOT NULL, event TEXT NOT NULL, partition INTEGER NOT NULL,
        floor INTEGER NOT NULL DEFAULT 0, UNIQUE (api, event, partition)
    );
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, topic INTEGER NOT NULL, previous INTEGER NOT NULL, at REAL NOT NULL,
        count INTEGER NOT NULL, record BLOB NOT NULL, seen REAL NOT NULL DEFAULT 0
    );
    CREATE INDEX by_topic ON events (topic, sequence, count);
    CREATE TABLE handed_off (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX handed_off_by_sequence ON handed_off (sequence);
    CREATE TABLE groups (
        api TEXT NOT NULL, name TEXT NOT NULL, events TEXT NOT NULL, created_at REAL NOT NULL, last_seen REAL NOT NULL,
        digest TEXT NOT NULL, PRIMARY KEY (api, name)
    ) WITHOUT ROWID;
    CREATE TABLE cursors (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (grp, topic)
    ) WITHOUT ROWID;
    CREATE TABLE held (
        api TEXT NOT NULL, grp TEXT NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL,
        PRIMARY KEY (api, grp, partition)
    ) WITHOUT ROWID;
    CREATE TABLE deliveries (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, sequence INTEGER NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (grp, topic, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE dead (
        grp TEXT NOT NULL, sequence INTEGER NOT NULL, topic INTEGER NOT NULL, record BLOB NOT NULL,
        deliveries INTEGER NOT NULL, error TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (grp, sequence)
    );
    CREATE TABLE lost (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (grp, topic)
    ) WITHOUT ROWID;
    CREATE TABLE cuts (
        topic INTEGER NOT NULL, through INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (topic, through)
    ) WITHOUT ROWID;
    CREATE TABLE size (count INTEGER NOT NULL, bytes INTEGER NOT NULL, through INTEGER NOT NULL);
"""


def make_or_upgrade(write: sqlite3.Connection, path: Path, new: Mapping[str, str]) -> None:
    """
    Create the tables in a new file, or upgrade those of an earlier version. Call it within a transaction.

    Args:
        write: a connection to the file.
        path: the file, for error texts.
        new: what to write into the table `about` of a new journal.

    Raises:
        JournalError: an unknown version of Lightbus wrote the file.

    """
    version = write.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        _make(write, new)
    elif version not in (1, 2, VERSION) or write.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise JournalError(
            f"The journal {path} is of version {version}, and this Lightbus knows version {VERSION}. "
            "It is left alone: run the version of Lightbus that wrote it, or one that is newer."
        )
    if version == 1:  # in version 1 each event had a row of its own
        write.execute("ALTER TABLE events ADD COLUMN count INTEGER NOT NULL DEFAULT 1")
        write.execute("DROP INDEX by_topic")
        write.execute("CREATE INDEX by_topic ON events (topic, sequence, count)")
    if version in (1, 2):  # their group times are times of day; existing events get 0, the oldest possible time
        write.execute("ALTER TABLE events ADD COLUMN seen REAL NOT NULL DEFAULT 0")
        ages = "created_at = min(0, created_at - ?1), last_seen = min(0, last_seen - ?1)"
        write.execute(f"UPDATE groups SET {ages}", (time.time(),))
        write.execute(f"PRAGMA user_version={VERSION}")
    write.execute(_STARTS)


def _make(write: sqlite3.Connection, new: Mapping[str, str]) -> None:
    for statement in _TABLES.split(";"):
        write.execute(statement)
    write.execute(f"PRAGMA application_id={APPLICATION_ID}")
    write.execute(f"PRAGMA user_version={VERSION}")
    write.executemany("INSERT INTO about VALUES (?, ?)", {"epoch": "0", **new}.items())
    write.execute("INSERT INTO size VALUES (0, 0, 0)")
