"""Decides whether an event is stored at once: if one task fires events in a row, no other event shares the commit."""

from __future__ import annotations

__all__ = ["AT_ONCE", "IN_ROW", "InRow"]

AT_ONCE = 16
"""Events in a row that one task stores at once, before other tasks of the loop get a turn."""

IN_ROW = 64
"""The same for small events, which are noted outside of the journal's tables: that takes a tenth of the time."""


class InRow:
    """Counts the events that one task, or hand-off, has stored at once within a tick. For one thread at a time."""

    def __init__(self) -> None:
        self._source: object = None
        self._count = 0
        self._had_several = False

    @property
    def expects_more(self) -> bool:
        """Whether more events are expected: this is not the first of the tick, or the previous tick had several."""
        return self._count > 1 or self._had_several

    def continues_row(self, source: object, noted: int, *, is_first: bool) -> bool:
        """
        Return whether the next event belongs to the row, and is stored at once.

        Args:
            source: the task that fires it.
            noted: how many events are noted outside of the journal's tables.
            is_first: whether it is the first event of this tick.

        """
        if is_first:
            if noted:  # left from an earlier tick: moving them into the tables failed
                return False
            self._source, self._count = source, 1
            return True
        count = self._count
        if source is not self._source or (count >= AT_ONCE and (count >= IN_ROW or noted < count - 1)):
            return False
        self._count = count + 1
        return True

    def end_tick(self) -> None:
        """End the row, at the end of a tick."""
        self._had_several = self._count > 1
        self._source, self._count = None, 0
