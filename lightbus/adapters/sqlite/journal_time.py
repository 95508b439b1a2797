"""A journal's own time, which does not change when somebody changes the time of day.

While the machine runs, this time runs too, whether the journal is open or not. While the machine is off, it does not
run: only the clock could tell how long that was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from ..host.machine_time import boot_id, machine_time

__all__ = ["JournalTime", "offset_of"]

NOTE_EVERY = 600.0
"""Seconds between two writes of the journal's own time: a power cut may set it back by up to this."""


def offset_of(about: Mapping[str, str]) -> float:
    """Return by how many seconds a journal's own time is ahead of the machine's, at least, by what it has stored."""
    if about.get("boot") and about["boot"] == boot_id():
        return float(about.get("offset", 0.0))
    return float(about.get("time", 0.0)) - machine_time()


class JournalTime:
    """The own time of one journal."""

    def __init__(self) -> None:
        self.offset = 0.0
        """Seconds by which the journal's own time is ahead of the machine's."""
        self._noted_at = 0.0

    def now(self) -> float:
        """Return the journal's own time, in seconds."""
        return machine_time() + self.offset

    def resume(self, write: sqlite3.Connection) -> None:
        """Resume the time of a journal being opened: from its stored time, or its newest event's if later."""
        about = dict(write.execute("SELECT key, value FROM about"))
        newest = write.execute("SELECT seen FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
        least = max(float(about.get("time", 0.0)), 0.0 if newest is None else float(newest[0]))
        self.offset = max(offset_of(about), least - machine_time())
        self.note(write)

    def note(self, write: sqlite3.Connection) -> None:
        """Write the time to disk, with what the next opening needs to resume it."""
        values = {"boot": boot_id(), "offset": repr(self.offset), "time": repr(self._now_noted())}
        write.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", values.items())

    def change_due(self) -> tuple[str, list[tuple[str]]] | None:
        """Return the change that updates the time on disk if that is due, else None."""
        if self.now() - self._noted_at <= NOTE_EVERY:
            return None
        return "UPDATE about SET value = ? WHERE key = 'time'", [(repr(self._now_noted()),)]

    def _now_noted(self) -> float:
        self._noted_at = self.now()
        return self._noted_at
