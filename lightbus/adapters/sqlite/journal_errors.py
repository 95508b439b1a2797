"""The errors of a journal's file, and their remedies."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ...exceptions import JournalError
from ...phrases import safely
from ..host.descriptors import has_free_descriptors
from ..host.directories import has_no_room, is_of_full_disk, is_of_place, takes_no_files

__all__ = ["DAMAGED", "is_locked", "is_removed", "journal_error"]

DAMAGED = (sqlite3.Error, TypeError, ValueError)
"""What reading a damaged file may raise: a column is no longer a number, or a text is not UTF-8."""

DATABASE_FILES = 4
"""More files than SQLite may have to open at a time: the database, its log, and their shared memory."""


def journal_error(path: Path, what: str, error: Exception) -> JournalError:
    """Return the error for a failure with a journal's file, with its remedy."""
    text = str(error)
    is_io = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR  # also of the -shm file
    if is_locked(error):
        remedy = (
            "It is locked by another program (a database browser, a script?): end its transaction there. "
            "The operation is repeated for a while."
        )
    elif has_no_room(path.parent) if is_io else is_of_full_disk(error):
        remedy = "The disk is full: make room."
    elif "unable to open" in text and not has_free_descriptors(DATABASE_FILES):  # SQLite does not say why
        remedy = "This process has reached its limit of open files: raise it (ulimit -n)."
    elif takes_no_files(path.parent):
        remedy = "No file can be created there. Another place is set by LIGHTBUS_DATA_DIR (journal.data_dir)."
    elif isinstance(error, FileNotFoundError):
        remedy = "It was removed while it was in use, and is written again as soon as that is possible."
    elif "readonly" in text or "unable to open" in text or is_of_place(error):
        remedy = "May this user write there? Another place is set by LIGHTBUS_DATA_DIR (journal.data_dir)."
    else:
        remedy = "Check the disk for errors."
    # A peer may get this text: it must be UTF-8, which the names of files need not be.
    return JournalError(safely(str, f"The journal {path} {what}: {text}. {remedy}"))


def is_locked(error: BaseException | None) -> bool:
    """Return whether an error, or the cause of a JournalError, says that another program has a database locked."""
    if isinstance(error, JournalError):
        error = error.__cause__
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.OperationalError) and code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_removed(error: BaseException | None) -> bool:
    """Return whether an error says that a journal was removed while it was in use."""
    return isinstance(error, JournalError) and isinstance(error.__cause__, FileNotFoundError)
