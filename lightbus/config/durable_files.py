"""Files that survive a power cut: written as a whole or not at all, under a name that is on disk, too."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["sync_directory", "write_durably"]

_NOT_POSSIBLE = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)
"""Errors of a file system that cannot sync directories, and of a directory that we may write into, and not read."""


def write_durably(path: Path, content: bytes, *, replace: bool = True) -> None:
    """
    Write a file that only its owner can read. Afterwards, and after a power cut, it is there as a whole.

    Without `replace`, an existing file is not changed, and FileExistsError is raised. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)  # not `rename`, which would replace: of two processes at once, one fails
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Return once the names in a directory survive a power cut, as far as its file system can. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE:
            raise
