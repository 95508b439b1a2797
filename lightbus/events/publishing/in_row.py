"""Whether an event is stored at once: a task that fires one after the other has no company to share a commit with."""

from __future__ import annotations

__all__ = ["AT_ONCE", "IN_ROW", "InRow"]

AT_ONCE = 16
"""Events in a row that one task stores at once, before the rest of the loop has its turn."""

IN_ROW = 64
"""Small events in a row that one task notes beside the journal's tables: that takes a tenth of the time."""


class InRow:
    """The events that one task, or hand-off, has stored at once within a tick. For one thread at a time."""

    def __init__(self) -> None:
        self._who: object = None
        self._count = 0
        self._was_row = False

    @property
    def more(self) -> bool:
        """Whether more are to be expected: it is not the first of this tick, or the one before had several."""
        return self._count > 1 or self._was_row

    def goes_on(self, who: object, noted: int, *, is_first: bool) -> bool:
        """
        Return whether the next event is one of the row.

        Args:
            who: the task that fires it.
            noted: how many events are noted beside the journal's tables.
            is_first: whether nothing was fired within this tick before.

        """
        if is_first:
            if noted:  # from an earlier tick: they could not be put into the tables
                return False
            self._who, self._count = who, 1
            return True
        count = self._count
        if who is not self._who or (count >= AT_ONCE and (count >= IN_ROW or noted < count - 1)):
            return False
        self._count = count + 1
        return True

    def end_tick(self) -> None:
        """Let others have their turn."""
        self._was_row = self._count > 1
        self._who, self._count = None, 0
