"""Where on disk things are kept that are to stay, and what kind of file system that is."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ...config.surroundings import home_directory

__all__ = [
    "data_directory",
    "has_no_room",
    "is_of_full_disk",
    "is_of_place",
    "is_shared",
    "takes_no_files",
    "volatile_filesystem",
]

SHARED_MEMORY = 32 * 1024
"""Bytes by which SQLite's file of shared memory grows (`WALINDEX_PGSZ` in its wal.c)."""

PASSING = frozenset({"overlay", "tmpfs", "ramfs", "aufs"})
"""File systems that are gone with the container, or with the machine's next start."""

OF_THE_KERNEL = frozenset(
    {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "debugfs", "tracefs", "securityfs", "configfs", "bpf", "mqueue"}
)
"""File systems in which nobody can make files, whatever their rights say to root."""

SHARED = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "lustre", "gfs2", "ocfs2", "afs", "beegfs"}
)
"""File systems that several hosts may have in common; so may any of fuse."""


def data_directory(configured: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """
    Return where Lightbus keeps what is to stay: `configured`, or the platform's own place for it.

    That is `$XDG_DATA_HOME/lightbus`, else `~/.local/share/lightbus` (XDG Base Directory Specification); on macOS
    `~/Library/Application Support/lightbus`.
    """
    if configured is not None:
        return configured
    environ = os.environ if environ is None else environ
    base = Path(environ.get("XDG_DATA_HOME", ""))
    if base.is_absolute() and sys.platform != "darwin":
        return base / "lightbus"
    usual = Path("Library", "Application Support") if sys.platform == "darwin" else Path(".local", "share")
    given = Path(environ.get("HOME", "")) / usual / "lightbus"
    if given.is_absolute() and _is_ours(given):  # whoever has begun there goes on there
        return given
    return home_directory(environ) / usual / "lightbus"


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def is_of_place(error: Exception) -> bool:
    """Return whether an error says that a place cannot be used as it is, which is no fault of the disk."""
    if isinstance(error, (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)):
        return True
    return isinstance(error, OSError) and error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


def is_of_full_disk(error: Exception) -> bool:
    """Return whether an error says that a disk, or what a user may have of it, is full."""
    return "full" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def has_no_room(path: Path) -> bool:
    """Return whether a directory is on a disk that not even SQLite's file of shared memory can grow on."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < SHARED_MEMORY


def volatile_filesystem(path: Path, mounts: str = "/proc/mounts") -> str | None:
    """Return the kind of the file system that a path is on, where that does not stay; None where it does."""
    kind = _file_system(path, mounts)
    return kind if kind in PASSING else None


def takes_no_files(path: Path, mounts: str = "/proc/mounts") -> bool:
    """Return whether a path is in a file system that the kernel alone has files in."""
    return _file_system(path, mounts) in OF_THE_KERNEL


def is_shared(path: Path, mounts: str = "/proc/mounts") -> bool:
    """Return whether other hosts may have a path, too: where that cannot be told, they may."""
    kind = _file_system(path, mounts)
    return not kind or kind in SHARED or kind.startswith("fuse")


def _file_system(path: Path, mounts: str) -> str:
    """Return the kind of the file system that a path is on; empty where it cannot be told."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found, kind = "", ""
    target = os.path.realpath(path)
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 2:
            point = fields[1].replace("\\040", " ")
            if (target == point or target.startswith(point.rstrip("/") + "/")) and len(point) >= len(found):
                found, kind = point, fields[2]
    return kind
