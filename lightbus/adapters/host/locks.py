"""Locks on files: which process holds a journal, and which one hands off the events of the outbox.

The kernel releases a `flock` when its process ends, however it ends. The lock belongs to the file and not to its name:
so it is checked regularly that the name still leads to the locked file.
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
The journals that this process has locked, by device and inode. Opening and closing one of them again would release
SQLite's locks on it: they belong to the process, whichever descriptor they were taken by (fcntl(2)).
"""


def lock_file(path: Path) -> int | None:
    """Lock a file, created if necessary; return its descriptor, or None if another has locked it. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # With a journal its lock file is removed, too: then we may have locked a file without a name.
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
    """Return whether a path leads to the file that is open as `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class JournalLock:
    """
    The hold of this process on a journal, by two locks: on a file beside the journal, and on the journal itself.

    The file beside it exists before the journal does, and may be removed by a cleaner of old files. On network file
    systems the journal itself is not locked: SQLite's own locks would conflict with this lock.
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
        Return the lock of a journal; None if another process has it, or the journal is gone. Raises OSError.

        Args:
            path: the journal.
            guards: whether to lock the journal itself, too.
            is_new: whether the journal is being created.

        """
        beside = lock_file(path.with_suffix(".lock"))
        if beside is None:
            return None
        try:
            guard = _guard(path, is_new=is_new) if guards else None
        except FileNotFoundError:  # the previous holder has removed the journal, and we have just created the lock file
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
        Create the lock file again if it was removed; return whether the journal is still ours.

        It is as long as the journal itself is locked, even if another process has the lock file for a moment. Raises
        OSError.
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
        """Lock another file that is about to become the journal. Raises OSError."""
        if self._guard is not None:
            old, known = self._guard, self._guarded
            self._keep_guard(_guard(path, is_new=False))
            _guarded.discard(known or (0, 0))
            os.close(old)

    def close(self) -> None:
        """Release the journal. Call this after all connections to it are closed."""
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
