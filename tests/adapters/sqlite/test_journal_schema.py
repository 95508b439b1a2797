"""Journals of earlier versions are upgraded; those of later ones are left alone."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from helpers.journals import ONE, event, page
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.journal import Journal
from lightbus.exceptions import JournalError


def test_a_newer_version_is_left_alone(journal: Journal, path: Path) -> None:
    """A file of a later version is not touched, and the error says so."""
    journal.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=4")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="is of version 4, and this Lightbus knows version 3"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [1, 2])
def test_journal_of_version_1_is_upgraded(journal: Journal, path: Path, version: int) -> None:
    """Its events, one per row, are read as before, new ones follow, and groups keep their age."""
    old = [journal.append([event(record=record)])[0].sequence for record in (b"a", b"b")]
    journal.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if version == 1:
            connection.execute("DROP INDEX by_topic")
            connection.execute("ALTER TABLE events DROP COLUMN count")
            connection.execute("CREATE INDEX by_topic ON events (topic, sequence)")
        connection.execute("ALTER TABLE events DROP COLUMN seen")
        connection.execute("DELETE FROM about WHERE key IN ('boot', 'offset', 'time')")
        now = time.time()
        connection.execute("INSERT INTO groups VALUES ('auth', 'shop', '[]', ?, ?, 'd')", (now - 50, now + 1e9))
        connection.execute(f"PRAGMA user_version={version}")
    again = Journal(path)
    [known] = again.groups.all()
    assert machine_time() - known.created_at == pytest.approx(50.0, abs=5.0)
    assert machine_time() - known.last_seen == pytest.approx(0.0, abs=5.0)  # it lay in the future
    assert again.history.position_since(ONE, known.created_at) == 0  # if unsure, the group gets too many events
    assert again.size == (2, 2)
    new = [each.sequence for each in again.append([event(record=b"c"), event(record=b"d")])]
    assert [entry.record for entry in page(again).entries] == [b"a", b"b", b"c", b"d"]
    assert [entry.sequence for entry in page(again).entries] == old + new
    again.close()
    Journal(path).close()
