"""The directory of a service's journals: which process takes which file.

A process holds a journal by a lock (`locks.py`), which is released when the process ends, however it ends. Then the
next publisher of the service continues the journal, or a running one adopts it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from ...config.surroundings import make_private
from ...exceptions import JournalError
from ..host.directories import is_shared
from ..host.locks import JournalLock
from ..host.machine_time import machine_time
from .group_table import KnownGroup, group_of_row
from .journal import Journal
from .journal_errors import DAMAGED, journal_error
from .journal_file import TableChange
from .journal_files import file_of, journals_in, remove_files
from .journal_time import offset_of
from .noted_events import Noted, still_noted
from .quarantine import is_damage, quarantine

__all__ = ["JournalDirectory", "apis_in", "has_events", "read_only"]

logger = logging.getLogger("lightbus.journal")

_USE = "use"
"""
The key of a journal's number: the higher it is, the later it was opened to be appended to. No clock decides that. It is
0 once another process has adopted the journal.
"""

_LEFT = "left"
"""
The key of the note that a journal was given back to a starting process: the number of its opening then, and the
machine's time. It is in the journal, since all processes have to leave it: two that have many would adopt it in turn.
The next opening ends it.
"""

LEFT_FOR = 600.0
"""Seconds for which a journal that was given back is left to a starting process; then it is adopted again."""


def has_events(path: Path) -> bool:
    """Return whether any journal in a service's directory has events, whoever holds the journal. Changes nothing."""
    return any(map(_has_events, journals_in(path)))


def _has_events(file: Path) -> bool:
    with contextlib.suppress(*DAMAGED), contextlib.closing(read_only(file)) as connection:
        stored = connection.execute("SELECT 1 FROM events LIMIT 1").fetchone() is not None
        return stored or bool(_still_noted(file, connection))
    return False


def _still_noted(file: Path, connection: sqlite3.Connection) -> list[Noted]:
    """Return the events noted beside a journal, as far as they can be read."""
    with contextlib.suppress(OSError):
        return still_noted(file, connection)
    return []


def apis_in(file: Path, *, even_empty: bool = False) -> set[str]:
    """
    Return the APIs of which a journal has events or dead letters, whoever holds the journal. Changes nothing.

    Args:
        file: the journal.
        even_empty: whether to include APIs of which it once had events or dead letters.

    """
    query = "SELECT id, api FROM topics"
    with contextlib.suppress(*DAMAGED), contextlib.closing(read_only(file)) as connection:
        topics = dict(connection.execute(query).fetchall())
        if even_empty:
            return set(topics.values())
        filled = {number for (number,) in connection.execute("SELECT topic FROM events UNION SELECT topic FROM dead")}
        filled |= {noted.number for noted in _still_noted(file, connection)}
        return {api for number, api in topics.items() if number in filled}
    return set()


class JournalDirectory:
    """
    The journals of one service. Any thread may use it, one at a time.

    Args:
        path: `<data directory>/<bus>/<service>`; created with access for this user only.
        host: this host's name: a journal that another host wrote is refused.
        durability: "process" or "power".

    Raises:
        JournalError: the directory cannot be created.

    """

    def __init__(self, path: Path, *, host: str, durability: str = "process") -> None:
        self.path = path
        self._host = host
        self._machine = _machine_id()
        self._durability = durability
        self._next_id = ""
        self._refused: set[str] = set()
        self._left: dict[Path, tuple[float, tuple[int, int]]] = {}
        """For each journal that is known to be left: the machine's time since when, and its fingerprint."""
        try:
            make_private(path)
        except OSError as error:
            raise journal_error(path, "(its directory) cannot be made", error) from error
        self._guards = not is_shared(path)

    def open_own(self) -> Journal:
        """
        Return a journal to append to: of those that nobody holds the one that was used last, else a new one.

        So a process that alone is restarted continues its own journal, and its events stay in order; processes that are
        restarted together may swap theirs. Raises JournalError.
        """
        uses = {file: _use_in(file) for file in self._files()}
        use = max(uses.values(), default=0) + 1
        for journal in self._free(files=sorted(uses, key=lambda file: (-uses[file], file))):
            _note_use(journal, use)
            return journal
        return self._create(use)

    def open_those_of(self, api: str) -> tuple[list[Journal], list[Path]]:
        """Take the journals that have anything of an API; return those that were free, and the other files."""
        return self._open_free([file for file in self._files() if api in apis_in(file)])

    def open_those_knowing(self, group: str, apis: Container[str]) -> tuple[list[Journal], list[Path]]:
        """Take the journals that know a group of these APIs; return those that were free, and the other files."""

        def knows(file: Path) -> bool:
            return any(each.name == group and each.api in apis for each in _groups_in(file))

        return self._open_free([file for file in self._files() if knows(file)])

    def _open_free(self, wanted: list[Path]) -> tuple[list[Journal], list[Path]]:
        journals = list(self._free(lambda file: file not in wanted))
        return journals, [file for file in wanted if file not in {journal.path for journal in journals}]

    def adopt(self) -> list[Journal]:
        """
        Take all journals that nobody holds, and return them. Those without a topic are removed.

        A journal that was given back to the next starting process is left to it, until somebody has opened it or
        `LEFT_FOR` seconds have passed.
        """
        adopted = []
        for journal in self._free(adopts=True):
            self._left.pop(journal.path, None)
            if journal.topics.all():
                _note_use(journal, 0)  # if this process is killed, it is to continue its own journal, not this one
                adopted.append(journal)
            else:
                self._remove(journal)
        return adopted

    def give_back(self, journal: Journal, *, to_starting: bool) -> None:
        """
        Close an adopted journal whose events are all handled, and leave it for `LEFT_FOR` seconds.

        With `to_starting`, all other running processes leave it, too: the next starting one is to continue it.
        """
        at = machine_time()
        if to_starting:
            with contextlib.suppress(JournalError):  # then only this process leaves it
                journal.change(_about_change(_LEFT, f"{journal.epoch} {at}"))
        journal.close()
        self._left[journal.path] = at, _fingerprint(journal.path)

    def _is_known_left(self, file: Path) -> bool:
        """Return whether a journal is left, without opening it or its lock: this is asked every few seconds."""
        at, fingerprint = self._left.get(file, (-LEFT_FOR, (0, 0)))
        return 0 <= machine_time() - at < LEFT_FOR and _fingerprint(file) == fingerprint

    def _is_left(self, file: Path) -> bool:
        """Return whether a journal is left, by whichever process, and remember that. Call it with the lock held."""
        about = _about(file)
        epoch, _, at = str(about.get(_LEFT, "")).partition(" ")
        with contextlib.suppress(ValueError):  # damaged
            if epoch and epoch == about.get("epoch"):
                self._left[file] = float(at), _fingerprint(file)
        return self._is_known_left(file)

    def adopt_filled(self) -> list[Journal]:
        """Take the journals that nobody holds and that have events; the others are left to their own service."""
        return list(self._free(lambda file: not _has_events(file), adopts=True))

    def siblings_groups(self) -> list[KnownGroup]:
        """Return the groups that any journal of the service knows, whoever holds it, with their earliest creation."""
        found: dict[tuple[str, str], KnownGroup] = {}
        for file in self._files():
            for group in _groups_in(file):
                known = found.get((group.api, group.name))
                found[group.api, group.name] = group if known is None else _merged(known, group)
        return list(found.values())

    def _files(self) -> list[Path]:
        return journals_in(self.path)

    def _free(
        self,
        leave: Callable[[Path], bool] = lambda file: False,
        files: Sequence[Path] | None = None,
        *,
        adopts: bool = False,
    ) -> Iterator[Journal]:
        for file in self._files() if files is None else files:
            if (adopts and self._is_known_left(file)) or leave(file) or (lock := self._take(file)) is None:
                continue
            journal = None
            try:
                if file.exists() and not (adopts and self._is_left(file)):
                    journal = self._open(file, lock)
            finally:
                if journal is None:
                    lock.close()
            if journal is not None:
                yield journal

    def _take(self, file: Path) -> JournalLock | None:
        """Return the lock of a journal; None if another process holds it, or locking it failed."""
        try:
            return JournalLock.take(file, guards=self._guards)
        except OSError as error:
            self._refuse(file, "%s", journal_error(file, "cannot be held", error))
            return None

    def _remove(self, journal: Journal) -> None:
        try:
            journal.delete()
        except OSError as error:
            self._refuse(journal.path, "%s", journal_error(journal.path, "cannot be removed", error))

    def _refuse(self, file: Path, text: str, *arguments: object) -> None:
        """Log once why a journal is left alone: adopting is tried every few seconds."""
        if file.name not in self._refused:
            self._refused.add(file.name)
            logger.error(text, *map(str, arguments))  # as text: an error keeps its cursors, and so the file, open

    def _open(self, file: Path, lock: JournalLock) -> Journal | None:
        if not self._is_ours(file):
            return None
        try:
            return Journal(file, durability=self._durability, lock=lock)
        except JournalError as error:
            if not is_damage(error.__cause__):
                self._refuse(file, "%s", error)
            else:
                try:
                    self._quarantine(file, error)
                except OSError as also:
                    self._refuse(file, "%s It cannot be renamed out of the way: %s", error, also)
        return None

    def _is_ours(self, file: Path) -> bool:
        """
        Return whether a journal may be opened here: not if another host wrote it and may have it open.

        On shared disks, locks do not always work between hosts. On a local disk they do, whatever host name the
        journal has: a container has another name each time.
        """
        about = _about(file)
        machine = about.get("machine", "")
        if about.get("host", self._host) == self._host or (machine and machine == self._machine):
            return True
        if not is_shared(file):
            return True
        self._refuse(
            file,
            "The journal %s was written by the host %s and is left alone by this one, %s: two hosts must not share "
            "a data directory. Start a worker there, or move the file to a directory of that host.",
            file, about.get("host"), self._host,
        )  # fmt: skip
        return False

    def _quarantine(self, file: Path, error: JournalError) -> None:
        renamed = quarantine(file)
        file.with_suffix(".lock").unlink(missing_ok=True)
        logger.error(
            "%s It was renamed to %s, and its events are not served; `sqlite3 %s .recover` may read some of them.",
            str(error), renamed, renamed,
        )  # fmt: skip

    def _create(self, use: int) -> Journal:
        # After a failure the same id is tried again: then the failure is the same, and logged once.
        self._next_id = self._next_id or os.urandom(8).hex()
        file = file_of(self.path, self._next_id)
        try:
            lock = JournalLock.take(file, guards=self._guards, is_new=True)
        except OSError as error:
            raise journal_error(file, "cannot be made", error) from error
        if lock is None:
            self._next_id = ""
            raise JournalError(f"The journal {file} is locked by another process although its name is new. Try again.")
        try:
            about = {"host": self._host, "machine": self._machine, _USE: str(use)}
            made = Journal(file, durability=self._durability, lock=lock, new=about)
        except BaseException:
            remove_files(file)  # each attempt on a full disk would leave further ones
            lock.close()
            raise
        self._next_id = ""
        return made


def _fingerprint(file: Path) -> tuple[int, int]:
    """Return modification time and size of a journal, which change when it is written; zeros if it is gone."""
    with contextlib.suppress(OSError):
        found = file.stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0


def read_only(file: Path) -> sqlite3.Connection:
    """Return a connection that reads a journal, whoever holds it, and changes nothing. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=1.0)


def _groups_in(file: Path) -> list[KnownGroup]:
    """Return the groups that a journal knows, as far as they can be read, whoever holds it. Changes nothing."""
    found: list[KnownGroup] = []
    with contextlib.suppress(*DAMAGED), contextlib.closing(read_only(file)) as connection:
        offset = offset_of(dict(connection.execute("SELECT key, value FROM about")))
        found += (group_of_row(row, offset) for row in connection.execute("SELECT * FROM groups"))
    return found


def _about(file: Path) -> dict[str, str]:
    """Return what a journal says about itself; nothing of one that is damaged. Changes nothing."""
    with contextlib.suppress(*DAMAGED), contextlib.closing(read_only(file)) as connection:
        return dict(connection.execute("SELECT key, value FROM about"))
    return {}


def _use_in(file: Path) -> int:
    """Return the number of a journal's latest use, among those of its directory; 0 if it is unknown."""
    with contextlib.suppress(*DAMAGED):
        return int(_about(file).get(_USE, 0))
    return 0


def _note_use(journal: Journal, use: int) -> None:
    with contextlib.suppress(JournalError):  # nothing but the order of events in two journals depends on it
        journal.change(_about_change(_USE, str(use)))


def _about_change(key: str, value: str) -> TableChange:
    return "INSERT OR REPLACE INTO about VALUES (?, ?)", [(key, value)]


def _merged(one: KnownGroup, other: KnownGroup) -> KnownGroup:
    return one._replace(
        created_at=min(one.created_at, other.created_at),
        last_seen=max(one.last_seen, other.last_seen),
        events=tuple(sorted({*one.events, *other.events})),
    )


def _machine_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    return ""
