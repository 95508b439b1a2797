"""The file of a journal beside other programs: readers, writers and cleaners of old files."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import wait_until
from lightbus.adapters.host.locks import JournalLock
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.journal_errors import is_locked
from lightbus.adapters.sqlite.journal_files import SUFFIXES
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError

ONE = Topic("auth", "seen", 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a new journal, held like a process holds it."""
    path = tmp_path / "auth" / "00000000000000aa.sqlite"
    path.parent.mkdir()
    made = Journal(path, lock=JournalLock.take(path, is_new=True))
    yield made
    made.close()


@contextlib.contextmanager
def outsider(journal: Journal, *statements: str) -> Iterator[None]:
    """Let another program hold a transaction."""
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield


def store(journal: Journal, count: int = 1, size: int = 10) -> None:
    """Store events."""
    for _ in range(count):
        journal.append([NewEvent(ONE, b"x" * size, 1.0)])


def records(journal: Journal) -> int:
    """Return how many events are found in it."""
    return len(journal.page(ONE, 0, limit=1000, max_bytes=10**9).entries)


def test_reader_of_another_program_only_makes_the_log_grow(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Commits and checkpoints continue; the growth is logged once; later the log is truncated."""
    monkeypatch.setattr("lightbus.adapters.sqlite.write_ahead_log.LARGE", 100_000)
    monkeypatch.setattr("lightbus.adapters.sqlite.write_ahead_log.GROWN", 200_000)
    store(journal)
    with outsider(journal, "BEGIN", "SELECT count(*) FROM events"):
        for _ in range(5):
            store(journal, 30, 5000)
            journal.checkpoint()
        assert journal.log.size > 200_000
        [warning] = [each for each in caplog.messages if "has grown" in each]
        assert "another program has been reading the journal" in warning
    journal.checkpoint()
    journal.checkpoint()
    assert journal.log.size == 0
    assert records(journal) == 151


def test_writer_of_another_program_is_named_at_once(journal: Journal) -> None:
    """Nothing waits inside SQLite; the message names the cause, and does not suspect the disk."""
    with outsider(journal, "BEGIN IMMEDIATE"):
        with pytest.raises(JournalError, match="It is locked by another program") as caught:
            store(journal)
        assert is_locked(caught.value)
        assert "disk" not in str(caught.value)
        with pytest.raises(JournalError, match="It is locked by another program"):
            journal.retry_while_locked(lambda: store(journal), 0.05)
        assert records(journal) == 0
    store(journal)
    assert records(journal) == 1


def test_retry_outlasts_a_writer_of_another_program(journal: Journal) -> None:
    """An event that waits in a thread is stored once the other program is done."""
    with outsider(journal, "BEGIN IMMEDIATE"):
        thread = threading.Thread(target=lambda: journal.retry_while_locked(lambda: store(journal), 60.0))
        thread.start()
    thread.join(60.0)
    assert records(journal) == 1


@pytest.mark.parametrize("gone", [[""], ["-wal"], ["-shm"], ["-wal", "-shm"], list(SUFFIXES)], ids="+".join)
def test_removed_files_are_written_again(journal: Journal, gone: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """No event is lost, the journal stays ours, and the next process that opens it finds all events."""
    store(journal, 3)
    for suffix in gone:
        Path(f"{journal.path}{suffix}").unlink()
    journal.restore_removed_files()
    assert "They were written again, and no event is lost" in caplog.text
    caplog.clear()
    journal.restore_removed_files()
    assert caplog.text == ""
    store(journal, 2)
    assert records(journal) == 5
    assert JournalLock.take(journal.path) is None
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        assert connection.execute("SELECT sum(count) FROM events").fetchone() == (5,)
    journal.close()
    again = Journal(journal.path)
    assert records(again) == 5
    again.close()


def test_removed_directory_is_created_again(journal: Journal) -> None:
    """Events fired in the meantime are stored by retrying."""
    store(journal, 3)
    for file in journal.path.parent.iterdir():
        file.unlink()
    journal.path.parent.rmdir()
    journal.retry_while_locked(lambda: store(journal))
    assert records(journal) == 4
    journal.close()
    again = Journal(journal.path, lock=JournalLock.take(journal.path))
    assert records(again) == 4
    again.close()


def test_removed_files_are_written_again_after_a_failure(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk there is room for the copy only: once there is more, no event is lost, and others are stored."""
    store(journal, 3)
    journal.path.unlink()

    def full(path: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("lightbus.adapters.sqlite.journal_file._connect", full)
        for _ in range(2):
            with pytest.raises(JournalError, match="full"):
                journal.restore_removed_files()
            with pytest.raises(JournalError, match="did not take 1 events"):
                store(journal)
            with pytest.raises(JournalError, match="cannot be read"):
                records(journal)
    journal.restore_removed_files()
    store(journal)
    assert records(journal) == 4


def test_lock_taken_by_another_process_closes_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes never write: if the journal itself cannot be locked, the one without the lock gives up."""
    path = tmp_path / "00000000000000bb.sqlite"
    journal = Journal(path, lock=JournalLock.take(path, guards=False, is_new=True))
    store(journal)
    path.with_suffix(".lock").unlink()
    other = JournalLock.take(path, guards=False)
    assert other is not None
    with pytest.raises(JournalError, match="another process has the journal now"):
        journal.restore_removed_files()
    assert journal.is_closed
    with pytest.raises(JournalError, match="is closed"):
        store(journal)
    other.close()


def test_removing_files_under_load_loses_nothing(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """Files are removed while events are stored, and no event is lost."""
    caplog.set_level(logging.ERROR)
    stop = threading.Event()
    stored: list[int] = []

    def fire() -> None:
        while not stop.is_set():
            journal.retry_while_locked(lambda: store(journal))
            stored.append(1)

    thread = threading.Thread(target=fire)
    thread.start()
    for round in range(1, 6):
        wait_until(lambda expected=20 * round: len(stored) > expected)  # type: ignore[misc]
        for suffix in SUFFIXES:
            Path(f"{journal.path}{suffix}").unlink(missing_ok=True)
        journal.restore_removed_files()
    stop.set()
    thread.join(60)
    assert journal.size[0] == len(stored)
    assert records(journal) == min(len(stored), 1000)


@pytest.mark.parametrize("clock", [0.0, 4.1e9, 1e11])
def test_wrong_clock_does_not_use_up_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: float) -> None:
    """However wrong it is: sequences go on growing at each opening."""
    path = tmp_path / "00000000000000aa.sqlite"
    found: list[int] = []
    for at in (1.8e9, clock, 1.8e9, clock):
        monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.time.time", lambda at=at: at)
        with contextlib.closing(Journal(path)) as journal:
            found += [each.sequence for each in journal.append([NewEvent(ONE, b"r", at)])]
    assert found == sorted(set(found))
    assert found[-1] < 2**62 + 2**50
