"""The directory for permanent data, and kinds of file systems."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightbus.adapters.host.directories import (
    data_directory,
    found_in,
    has_no_room,
    is_shared,
    takes_no_files,
    volatile_filesystem,
)


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/lightbus"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "{home}/.local/share/lightbus"),
        ("linux", {}, "{home}/.local/share/lightbus"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "{home}/Library/Application Support/lightbus"),
    ],
)
def test_data_directory_is_the_platforms_unless_configured(
    monkeypatch: pytest.MonkeyPatch, platform: str, environ: dict[str, str], expected: str
) -> None:
    """The platform's own directory, unless one is configured."""
    monkeypatch.setattr(sys, "platform", platform)
    assert data_directory(None, environ) == Path(expected.format(home=Path.home()))
    assert data_directory(Path("/mine"), environ) == Path("/mine")


def test_volatile_file_systems_are_known(tmp_path: Path) -> None:
    """The longest mount point above a path decides; if mounts cannot be read, the result is None."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\noverlay /box overlay rw 0 0\n/dev/b /box/kept xfs rw\n"
    )
    found = [
        volatile_filesystem(Path(path), str(mounts))
        for path in ("/srv", "/run/user", "/runner", "/box/a", "/box/kept/a")
    ]
    assert found == [None, "tmpfs", None, "overlay", None]
    assert volatile_filesystem(Path("/srv"), str(tmp_path / "none")) is None


def test_file_systems_of_the_kernel(tmp_path: Path) -> None:
    """No files can be created there, whatever permissions say."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nproc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0\n")
    found = [takes_no_files(Path(path), str(mounts)) for path in ("/srv", "/proc/nowhere/at", "/sys", "/process")]
    assert found == [False, True, True, False]


def test_shared_file_systems_are_known(tmp_path: Path) -> None:
    """Network file systems may be shared with other hosts, and so may unknown ones."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nnas:/x /nas nfs4 rw 0 0\nssh /far fuse.sshfs rw 0 0\n")
    assert [is_shared(Path(path), str(mounts)) for path in ("/srv", "/nas/a", "/far/b")] == [False, True, True]
    assert is_shared(Path("/srv"), str(tmp_path / "none"))


def test_room_for_sqlite_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none if not even a page of it fits; a disk that cannot be asked counts as having room."""
    assert not has_no_room(tmp_path / "missing")
    for blocks, is_full in ((0, True), (7, True), (8, False)):
        disk = SimpleNamespace(f_bavail=blocks, f_frsize=4096)
        monkeypatch.setattr("lightbus.adapters.host.directories.os.statvfs", lambda _, disk=disk: disk)
        assert has_no_room(tmp_path) == is_full


def test_what_is_in_a_directory(tmp_path: Path) -> None:
    """In order of names; nothing where there is no directory, or none that the system lets us look into."""
    for name in ("b.x", "a.x", "a.y"):
        (tmp_path / name).touch()
    assert found_in(tmp_path, "*.x") == [tmp_path / "a.x", tmp_path / "b.x"]
    assert found_in(tmp_path / "gone", "*") == []
    assert found_in(tmp_path / "a.x", "*") == []
    assert found_in(tmp_path / ("x" * 300), "*") == []  # `Path.glob` raises here, as it does for EACCES
