"""The directory for permanent data, and the kinds of file systems."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ...config.surroundings import home_directory

__all__ = [
    "data_directory",
    "found_in",
    "has_no_room",
    "is_of_full_disk",
    "is_of_place",
    "is_shared",
    "takes_no_files",
    "volatile_filesystem",
]

SHARED_MEMORY = 32 * 1024
"""Bytes by which SQLite's file of shared memory grows (`WALINDEX_PGSZ` in its wal.c)."""

VOLATILE = frozenset({"overlay", "tmpfs", "ramfs", "aufs"})
"""File systems that are lost with the container, or at the next start of the machine."""

KERNEL_ONLY = frozenset(
    {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "debugfs", "tracefs", "securityfs", "configfs", "bpf", "mqueue"}
)
"""File systems in which no files can be created, whatever permissions root sees."""

SHARED = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "lustre", "gfs2", "ocfs2", "afs", "beegfs"}
)
"""File systems that several hosts may share; so may any fuse file system."""


def data_directory(configured: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """
    Return the directory for permanent data: `configured`, or the platform's own place for it.

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
    if given.is_absolute() and _is_ours(given):  # keep using an existing directory
        return given
    return home_directory(environ) / usual / "lightbus"


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def found_in(directory: Path, pattern: str) -> list[Path]:
    """
    Return what matches a pattern below a directory, sorted; nothing if there is none that this user may enter.

    `Path.glob`, `Path.is_dir` and `Path.exists` raise where even to ask what is there is refused.
    """
    return sorted(directory.glob(pattern)) if os.path.isdir(directory) else []


def is_of_place(error: Exception) -> bool:
    """Return whether an error is about the path or its permissions, and not a fault of the disk."""
    if isinstance(error, (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)):
        return True
    return isinstance(error, OSError) and error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


def is_of_full_disk(error: Exception) -> bool:
    """Return whether an error says that a disk, or a user's quota, is full."""
    return "full" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def has_no_room(path: Path) -> bool:
    """Return whether a directory's disk has too little room even for SQLite's file of shared memory to grow."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < SHARED_MEMORY


def volatile_filesystem(path: Path, mounts: str = "/proc/mounts") -> str | None:
    """Return the kind of the file system of a path if it is volatile, else None."""
    kind = _file_system(path, mounts)
    return kind if kind in VOLATILE else None


def takes_no_files(path: Path, mounts: str = "/proc/mounts") -> bool:
    """Return whether a path is in a file system of the kernel, in which no files can be created."""
    return _file_system(path, mounts) in KERNEL_ONLY


def is_shared(path: Path, mounts: str = "/proc/mounts") -> bool:
    """Return whether other hosts may share the file system of a path; True if unknown."""
    kind = _file_system(path, mounts)
    return not kind or kind in SHARED or kind.startswith("fuse")


def _file_system(path: Path, mounts: str) -> str:
    """Return the kind of the file system of a path; empty if unknown."""
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
