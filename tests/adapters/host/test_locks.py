"""Locks on files: which process holds a journal, even if the lock file is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus.adapters.host.locks import JournalLock, is_there, lock_file
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal is."""
    return tmp_path / "00000000000000aa.sqlite"


def taken(path: Path, *, guards: bool = True) -> JournalLock:
    """Return the lock of a journal that is made."""
    lock = JournalLock.take(path, guards=guards, is_new=True)
    assert lock is not None
    path.touch()
    return lock


def test_removed_lock_file_is_noticed(path: Path) -> None:
    """A path leads to the open file, or the file was removed."""
    descriptor = lock_file(path)
    assert descriptor is not None
    with open(descriptor, "wb"):
        assert is_there(descriptor, path)
        assert lock_file(path) is None
        path.unlink()
        assert not is_there(descriptor, path)
        path.touch()
        assert not is_there(descriptor, path)


def test_journal_stays_held_without_its_lock_file(path: Path) -> None:
    """Removing the lock file does not free the journal, not even in this process; the lock is created again."""
    lock = taken(path)
    for _ in range(2):
        path.with_suffix(".lock").unlink()
        assert JournalLock.take(path) is None
        assert lock.renew()
        assert JournalLock.take(path) is None
    lock.close()
    again = JournalLock.take(path)
    assert again is not None
    again.close()


def test_lock_is_lost_with_its_file_on_network_file_systems(path: Path) -> None:
    """There the journal itself is not locked: if another holds the new lock file, the journal is given up."""
    lock = taken(path, guards=False)
    path.with_suffix(".lock").unlink()
    other = JournalLock.take(path, guards=False)
    assert other is not None
    assert not lock.renew()
    lock.close()
    other.close()


def test_removed_journal_has_no_lock(path: Path) -> None:
    """No file is created or left."""
    assert JournalLock.take(path) is None
    assert list(path.parent.iterdir()) == []


def test_refused_lock_keeps_sqlites_locks(path: Path) -> None:
    """Being refused the lock leaves the journal's own locks in the kernel unchanged."""
    lock = taken(path)
    journal = Journal(path, lock=lock)
    journal.append([NewEvent(Topic("auth", "seen", 1), b"r", 1.0)])
    inode = path.stat().st_ino

    def locks() -> list[str]:
        return [line for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]

    before = [line.split()[1] for line in locks()]
    path.with_suffix(".lock").unlink()
    assert JournalLock.take(path) is None
    assert [line.split()[1] for line in locks()] == before
    assert "POSIX" in before
    journal.close()
