"""The file of a journal beside other programs: readers, writers and cleaners from outside."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import wait_until
from lightbus.adapters.host.locks import JournalLock
from lightbus.adapters.sqlite.journal import Journal, NewEvent, Topic
from lightbus.adapters.sqlite.journal_file import SUFFIXES, is_locked, journal_error
from lightbus.exceptions import JournalError

ONE = Topic("auth", "seen", 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a new journal, held as a process holds it."""
    path = tmp_path / "auth" / "00000000000000aa.sqlite"
    path.parent.mkdir()
    made = Journal(path, lock=JournalLock.take(path, is_new=True))
    yield made
    made.close()


@contextlib.contextmanager
def outsider(journal: Journal, *statements: str) -> Iterator[None]:
    """Have another program be in a transaction."""
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


def test_a_reader_from_outside_costs_a_growing_log_only(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Commits and write-backs go on; what cannot be written back is said once; afterwards the log is cut down."""
    monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.LARGE_WAL", 100_000)
    monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.GROWN_WAL", 200_000)
    store(journal)
    with outsider(journal, "BEGIN", "SELECT count(*) FROM events"):
        for _ in range(5):
            store(journal, 30, 5000)
            journal.checkpoint()
        assert journal.log_size > 200_000
        [warning] = [each for each in caplog.messages if "has grown" in each]
        assert "another program has been reading the journal" in warning
    journal.checkpoint()
    journal.checkpoint()
    assert journal.log_size == 0
    assert records(journal) == 151


def test_a_writer_from_outside_is_named_at_once(journal: Journal) -> None:
    """Nothing waits inside SQLite; the message says what it is, and does not ask for the disk."""
    with outsider(journal, "BEGIN IMMEDIATE"):
        with pytest.raises(JournalError, match="It is locked by another program") as caught:
            store(journal)
        assert is_locked(caught.value)
        assert "disk" not in str(caught.value)
        with pytest.raises(JournalError, match="It is locked by another program"):
            journal.patiently(lambda: store(journal), 0.05)
        assert records(journal) == 0
    store(journal)
    assert records(journal) == 1


def test_patience_outlasts_a_writer_from_outside(journal: Journal) -> None:
    """What waits in a thread is stored once the other program is done."""
    with outsider(journal, "BEGIN IMMEDIATE"):
        thread = threading.Thread(target=lambda: journal.patiently(lambda: store(journal), 60.0))
        thread.start()
    thread.join(60.0)
    assert records(journal) == 1


@pytest.mark.parametrize("gone", [[""], ["-wal"], ["-shm"], ["-wal", "-shm"], list(SUFFIXES)], ids="+".join)
def test_files_that_were_removed_are_written_anew(
    journal: Journal, gone: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it is lost, it is ours still, and who opens it next finds all."""
    store(journal, 3)
    for suffix in gone:
        Path(f"{journal.path}{suffix}").unlink()
    journal.see_to_files()
    assert "is written anew, and nothing of it is lost" in caplog.text
    caplog.clear()
    journal.see_to_files()
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


def test_a_directory_that_was_removed_is_made_anew(journal: Journal) -> None:
    """And what is fired meanwhile is stored by who is patient."""
    store(journal, 3)
    for file in journal.path.parent.iterdir():
        file.unlink()
    journal.path.parent.rmdir()
    journal.patiently(lambda: store(journal))
    assert records(journal) == 4
    journal.close()
    again = Journal(journal.path, lock=JournalLock.take(journal.path))
    assert records(again) == 4
    again.close()


def test_a_lock_that_another_process_has_now_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There never are two who write: where the journal itself cannot be locked, the one without the lock gives up."""
    path = tmp_path / "00000000000000bb.sqlite"
    journal = Journal(path, lock=JournalLock.take(path, guards=False, is_new=True))
    store(journal)
    path.with_suffix(".lock").unlink()
    other = JournalLock.take(path, guards=False)
    assert other is not None
    with pytest.raises(JournalError, match="another process has the journal now"):
        journal.see_to_files()
    assert journal.is_closed
    with pytest.raises(JournalError, match="is closed"):
        store(journal)
    other.close()


def test_it_is_looked_after_while_it_is_used(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """Removing files under load loses nothing."""
    caplog.set_level(logging.ERROR)
    stop = threading.Event()
    stored: list[int] = []

    def fire() -> None:
        while not stop.is_set():
            journal.patiently(lambda: store(journal))
            stored.append(1)

    thread = threading.Thread(target=fire)
    thread.start()
    for round in range(1, 6):
        wait_until(lambda expected=20 * round: len(stored) > expected)  # type: ignore[misc]
        for suffix in SUFFIXES:
            Path(f"{journal.path}{suffix}").unlink(missing_ok=True)
        journal.see_to_files()
    stop.set()
    thread.join(30.0)
    assert journal.size[0] == len(stored)
    assert records(journal) == min(len(stored), 1000)


class Machine:
    """A machine whose time a test lets pass, and which it starts anew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.boot = 1000.0, "first"
        monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.machine_time", lambda: self.now)
        monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.boot_id", lambda: self.boot)


def test_a_journal_sees_time_pass_while_the_machine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is open or not, and however it was closed; a start of the machine sets it on, and never back."""
    machine, path = Machine(monkeypatch), tmp_path / "00000000000000aa.sqlite"
    journal = Journal(path)
    began = journal.time()
    machine.now += 50.0
    store(journal)
    assert journal.time() == began + 50.0
    crashed = tmp_path / "00000000000000bb.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:  # as it is when its process is killed
        connection.execute("VACUUM INTO ?", (str(crashed),))
    journal.close()
    machine.now += 1000.0
    for file in (path, crashed):
        with contextlib.closing(Journal(file)) as again:
            assert again.time() == began + 1050.0
    machine.now, machine.boot = 5.0, "second"
    with contextlib.closing(Journal(path)) as again:
        assert again.time() == began + 1050.0
        machine.now += 10.0
        assert again.time() == began + 1060.0
    machine.boot = ""  # where it is not told, nothing is believed
    machine.now += 1e9
    with contextlib.closing(Journal(path)) as again:
        assert again.time() == began + 1060.0


def test_a_killed_process_takes_no_time_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the newest event knows counts, where the machine went down before the time was noted."""
    machine, path = Machine(monkeypatch), tmp_path / "00000000000000aa.sqlite"
    journal = Journal(path)
    machine.now += 300.0
    store(journal)
    seen = journal.time()
    crashed = tmp_path / "00000000000000bb.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(crashed),))
    journal.close()
    machine.now, machine.boot = 1.0, "second"
    with contextlib.closing(Journal(crashed)) as again:
        assert again.time() == seen


@pytest.mark.parametrize("clock", [0.0, 4.1e9, 1e11])
def test_no_clock_uses_up_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: float) -> None:
    """However far off it is: sequences go on upwards at each opening."""
    path = tmp_path / "00000000000000aa.sqlite"
    found: list[int] = []
    for at in (1.8e9, clock, 1.8e9, clock):
        monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.time.time", lambda at=at: at)
        with contextlib.closing(Journal(path)) as journal:
            found += [each.sequence for each in journal.append([NewEvent(ONE, b"r", at)])]
    assert found == sorted(set(found))
    assert found[-1] < 2**62 + 2**50


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        *((each, "May this user write there?") for each in (errno.ENOTDIR, errno.EROFS, errno.EACCES, errno.EISDIR)),
        *((each, "The disk is full") for each in (errno.ENOSPC, errno.EDQUOT)),
        (errno.EIO, "Is the disk all right?"),
    ],
)
def test_remedies_fit_the_error(number: int, remedy: str, tmp_path: Path) -> None:
    """The disk is suspected only where it may be at fault."""
    assert remedy in str(journal_error(tmp_path, "cannot be made", OSError(number, os.strerror(number))))


@pytest.mark.parametrize(("has_room", "remedy"), [(False, "The disk is full"), (True, "Is the disk all right?")])
def test_an_error_of_a_full_disk(has_room: bool, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite calls it an I/O error where it is its shared memory that cannot grow."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    monkeypatch.setattr("lightbus.adapters.sqlite.journal_file.has_no_room", lambda _: not has_room)
    assert remedy in str(journal_error(tmp_path / "outbox.sqlite", "cannot be read", error))
