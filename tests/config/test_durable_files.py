"""Files that survive a power cut: what is on disk in which order."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lightbus.adapters.sqlite.journal_files import JournalFiles
from lightbus.cli.support.contexts import Contexts, context_file, save_contexts
from lightbus.config.durable_files import sync_directory, write_durably
from lightbus.config.keys import BusKey, write_key_file
from lightbus.config.surroundings import make_private


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """Return the inode of each file and directory that was synced, with the names in that directory at the time."""
    found: list[tuple[int, list[str]]] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        is_directory = os.path.isdir(descriptor)
        found.append((os.fstat(descriptor).st_ino, sorted(os.listdir(descriptor)) if is_directory else []))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


@pytest.mark.parametrize("replace", [False, True])
def test_the_content_and_then_the_name_are_on_disk(
    tmp_path: Path, synced: list[tuple[int, list[str]]], replace: bool
) -> None:
    """Nothing else is left in the directory; only this user can read the file."""
    file = tmp_path / "file"
    write_durably(file, b"content", replace=replace)
    assert synced == [(file.stat().st_ino, []), (tmp_path.stat().st_ino, ["file"])]
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"content", 0o600)


def test_a_file_is_only_replaced_on_request(tmp_path: Path) -> None:
    """Otherwise it stays as it is."""
    file = tmp_path / "file"
    file.write_text("before")
    with pytest.raises(FileExistsError):
        write_durably(file, b"after", replace=False)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "before")]
    write_durably(file, b"after")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "after")]


def _write_key(file: Path) -> Path:
    write_key_file(file, [BusKey.generate("shop")], replace=False)
    return file


def _write_contexts(file: Path) -> Path:
    save_contexts(Contexts())
    return context_file()


def _replace_journal(file: Path) -> Path:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").touch()
    copy = file.with_suffix(".anew")
    copy.touch()
    JournalFiles(file).replace_by(copy)
    return file


@pytest.mark.parametrize("write", [_write_key, _write_contexts, _replace_journal])
def test_every_file_that_is_renamed_into_place_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[tuple[int, list[str]]], write: Callable[[Path], Path]
) -> None:
    """Its name is on disk when the write is done."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    file = write(tmp_path / "file")
    assert synced[-1][0] == file.parent.stat().st_ino
    assert file.name in synced[-1][1]


def test_a_new_directory_is_on_disk(tmp_path: Path, synced: list[tuple[int, list[str]]]) -> None:
    """Also those above it that are made with it."""
    make_private(tmp_path / "bus" / "service")
    assert synced == [(tmp_path.stat().st_ino, ["bus"]), ((tmp_path / "bus").stat().st_ino, ["service"])]


@pytest.mark.parametrize("reason", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """It does what it can; a disk that fails is an error."""

    def fails(descriptor: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "fsync", fails)
    sync_directory(tmp_path)
    reason = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync_directory(tmp_path)


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may write into some directories that one may not list."""

    def refuses(*args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuses)
    sync_directory(tmp_path)
