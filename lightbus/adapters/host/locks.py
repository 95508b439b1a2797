"""Locks on files: which process a journal belongs to, and which one empties the outbox.

The kernel gives a `flock` back when its process ends, however it ends. It belongs to the file and not to its name: so
whether the file that is locked is the one that others find is looked at again and again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

__all__ = ["JournalLock", "is_there", "lock_file"]

_guarded: set[tuple[int, int]] = set()
"""
The journals that this process has locked, by device and inode. To open and close one of them once more would end the
locks that SQLite has on it: they are the process's, whichever descriptor they were taken by (fcntl(2)).
"""


def lock_file(path: Path) -> int | None:
    """Return a descriptor that holds the lock file, made if need be; None where somebody else does. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever removed a journal has removed its lock, too: then ours is of a file that nobody finds any more.
            if is_there(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_there(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one that others find under its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class JournalLock:
    """
    Says that a journal is this process's, by two locks: on a file beside it, and on the journal itself.

    The file beside it is there before the journal is, and may be taken away by a cleaner of old files. The journal
    itself is not locked on file systems of the network: there SQLite's own locks would get in the way of it.
    """

    def __init__(self, path: Path, beside: int, guard: int | None) -> None:
        self._path = path
        self._beside = beside
        self._guard: int | None = None
        self._guarded: tuple[int, int] | None = None
        self._keep_guard(guard)

    @classmethod
    def take(cls, path: Path, *, guards: bool = True, is_new: bool = False) -> JournalLock | None:
        """
        Return the lock of a journal; None where another one has it, or it is gone. Raises OSError.

        Args:
            path: the journal.
            guards: whether the journal itself is locked, too.
            is_new: whether the journal is made.

        """
        beside = lock_file(path.with_suffix(".lock"))
        if beside is None:
            return None
        try:
            guard = _guard(path, is_new=is_new) if guards else None
        except FileNotFoundError:  # it was removed by whoever had the lock before, and the lock was made by us
            path.with_suffix(".lock").unlink(missing_ok=True)
            os.close(beside)
            return None
        except BlockingIOError:
            os.close(beside)
            return None
        except BaseException:
            os.close(beside)
            raise
        return cls(path, beside, guard)

    def renew(self) -> bool:
        """
        Make the lock beside the journal once more where it was taken away; return whether the journal is ours.

        It is as long as the journal itself is locked, whoever has the other lock for a moment. Raises OSError.
        """
        beside = self._path.with_suffix(".lock")
        if is_there(self._beside, beside):
            return True
        found = lock_file(beside)
        if found is not None:
            os.close(self._beside)
            self._beside = found
        return found is not None or self._guard is not None

    def move_to(self, path: Path) -> None:
        """Lock another file, that is about to become the journal. Raises OSError."""
        if self._guard is not None:
            old, known = self._guard, self._guarded
            self._keep_guard(_guard(path, is_new=False))
            _guarded.discard(known or (0, 0))
            os.close(old)

    def close(self) -> None:
        """Let others have the journal; once all connections to it are closed."""
        _guarded.discard(self._guarded or (0, 0))
        for descriptor in (self._guard, self._beside):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _keep_guard(self, guard: int | None) -> None:
        self._guard = guard
        if guard is not None:
            found = os.fstat(guard)
            self._guarded = found.st_dev, found.st_ino
            _guarded.add(self._guarded)


def _guard(path: Path, *, is_new: bool) -> int:
    if not is_new:
        found = path.stat()
        if (found.st_dev, found.st_ino) in _guarded:
            raise BlockingIOError
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if is_new else 0), stat.S_IRUSR | stat.S_IWUSR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
