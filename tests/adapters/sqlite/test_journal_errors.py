"""The remedies in errors of a journal fit the cause."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from lightbus.adapters.sqlite import journal_errors as module
from lightbus.adapters.sqlite.journal_errors import journal_error


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        *((each, "May this user write there?") for each in (errno.ENOTDIR, errno.EROFS, errno.EACCES, errno.EISDIR)),
        *((each, "The disk is full") for each in (errno.ENOSPC, errno.EDQUOT)),
        (errno.EIO, "Check the disk for errors."),
    ],
)
def test_remedies_fit_the_error(number: int, remedy: str, tmp_path: Path) -> None:
    """The disk is only suspected if it may be at fault."""
    assert remedy in str(journal_error(tmp_path, "cannot be made", OSError(number, os.strerror(number))))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_place_without_files_is_not_called_removed() -> None:
    """The file was not removed while in use: it never existed."""
    error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    text = str(journal_error(Path("/proc/nowhere/bus/outbox.sqlite"), "did not take an event", error))
    assert "No file can be created there. Another place is set by LIGHTBUS_DATA_DIR" in text


@pytest.mark.parametrize(("has_room", "remedy"), [(False, "The disk is full"), (True, "Check the disk for errors.")])
def test_io_error_of_shared_memory_is_a_full_disk(
    has_room: bool, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite reports an I/O error if its shared memory cannot grow."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    monkeypatch.setattr("lightbus.adapters.sqlite.journal_errors.has_no_room", lambda _: not has_room)
    assert remedy in str(journal_error(tmp_path / "outbox.sqlite", "cannot be read", error))


def test_text_of_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    """It can be sent to a peer."""
    error = journal_error(tmp_path / os.fsdecode(b"b\xfcro"), "cannot be read", OSError(errno.EIO, "I/O error"))
    assert "b\\udcfcro cannot be read" in str(error)
    assert str(error).encode()


@pytest.mark.parametrize(("has_free", "remedy"), [(True, "May this user write there?"), (False, "(ulimit -n)")])
def test_limit_of_open_files_is_named(
    has_free: bool, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says only that it cannot open a file, also where the reason is this process."""
    monkeypatch.setattr(module, "has_free_descriptors", lambda count: has_free)
    error = journal_error(tmp_path / "a", "cannot be read", sqlite3.OperationalError("unable to open database file"))
    assert remedy in str(error)
