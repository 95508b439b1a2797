"""A journal's own time, which whoever moves the time of day does not change.

While the machine runs it goes on whether the journal is open or not. From one start of the machine to the next it
stands still: how long that took, only a clock could tell.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from ..host.machine_time import boot_id, machine_time

__all__ = ["JournalTime", "offset_of"]

NOTE_EVERY = 600.0
"""Seconds between two notes of the journal's own time: so many of them a power cut may take."""


def offset_of(about: Mapping[str, str]) -> float:
    """Return what a journal's own time is ahead of the machine's, as it has noted it; at least that."""
    if about.get("boot") and about["boot"] == boot_id():
        return float(about.get("offset", 0.0))
    return float(about.get("time", 0.0)) - machine_time()


class JournalTime:
    """The seconds that one journal has seen pass."""

    def __init__(self) -> None:
        self.offset = 0.0
        """What the journal's own time is ahead of the machine's."""
        self._noted_at = 0.0

    def now(self) -> float:
        """Return the seconds that the journal has seen pass."""
        return machine_time() + self.offset

    def go_on(self, write: sqlite3.Connection) -> None:
        """Go on where the journal, which is being opened, has noted that it was, or where its newest event was."""
        about = dict(write.execute("SELECT key, value FROM about"))
        newest = write.execute("SELECT seen FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
        least = max(float(about.get("time", 0.0)), 0.0 if newest is None else float(newest[0]))
        self.offset = max(offset_of(about), least - machine_time())
        self.note(write)

    def note(self, write: sqlite3.Connection) -> None:
        """Have it on disk, with what tells the next opening how to go on."""
        values = {"boot": boot_id(), "offset": repr(self.offset), "time": repr(self._now_noted())}
        write.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", values.items())

    def change_due(self) -> tuple[str, list[tuple[str]]] | None:
        """Return the change that has it on disk anew, where that is due; None where it is not."""
        if self.now() - self._noted_at <= NOTE_EVERY:
            return None
        return "UPDATE about SET value = ? WHERE key = 'time'", [(repr(self._now_noted()),)]

    def _now_noted(self) -> float:
        self._noted_at = self.now()
        return self._noted_at
