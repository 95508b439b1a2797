"""The read lock is kept from one commit to the next: that changes nothing for anybody else."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from helpers.journals import ONE
from lightbus.adapters.sqlite.journal import Journal
from lightbus.adapters.sqlite.read_lock import ReadLock


def test_what_is_written_meanwhile_is_committed(tmp_path: Path) -> None:
    """Each statement by itself, for others to see; once released, nobody is kept from anything."""
    path = tmp_path / "some.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writes:
        writes.execute("PRAGMA journal_mode=WAL")
        writes.execute("CREATE TABLE about (key)")
        writes.execute("INSERT INTO about VALUES (1)")
        lock = ReadLock()
        lock.keep(writes)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reads:
            for number in range(2, 5):
                writes.execute("INSERT INTO about VALUES (?)", (number,))
                lock.keep(writes)
                assert reads.execute("SELECT max(key) FROM about").fetchone() == (number,)
            busy, frames, done = reads.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            assert (busy, done < frames) == (0, True)
            lock.release()
            lock.release()
            busy, frames, done = reads.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert (busy, frames, done) == (0, 0, 0)


def test_a_journal_keeps_it_for_those_that_follow(tmp_path: Path) -> None:
    """Whatever else is done with the journal meanwhile goes well: another's event, a removal, a change, its end."""
    path = tmp_path / "00000000000000aa.sqlite"
    journal = Journal(path)
    journal.append_one(ONE, b"a", 1.0)
    journal.append_one(ONE, b"b", 1.0, more=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("UPDATE about SET value = value")  # so that what is read here is not the latest any more
    journal.append_one(ONE, b"c", 1.0, "id-1")
    journal.append_one(ONE, b"d", 1.0, more=True)
    journal.change(("UPDATE size SET bytes = bytes + ?", [(0,)]))
    journal.append_one(ONE, b"e", 1.0, more=True)
    path.unlink()
    journal.see_to_files()
    journal.append_one(ONE, b"f", 1.0, more=True)
    journal.rest()
    journal.append_one(ONE, b"g", 1.0, more=True)
    journal.close()
    again = Journal(path)
    page = again.page(ONE, 0, limit=10, max_bytes=1000)
    assert [entry.record for entry in page.entries] == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    again.append_one(ONE, b"h", 1.0, more=True)
    again.delete()
    assert not path.exists()
