"""The moment by which a call must be answered. It is made once, at the front door, and handed down.

Across the wire goes the time left and not the moment: the clocks of two hosts do not agree.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["LONGEST", "Deadline", "Inherited", "current_deadline"]

LONGEST = 366 * 24 * 3600.0
"""Seconds that a deadline may be away: the number comes from strangers, too, and may be too large for a float."""


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A moment on this process's monotonic clock (`at`, in seconds of `time.monotonic()`)."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now, or the one of the call being served, if that is sooner."""
        own = cls(time.monotonic() + min(seconds, LONGEST))
        inherited = current_deadline.get()
        return own if inherited is None or inherited.deadline is None else min(own, inherited.deadline)

    def left(self) -> float:
        """Return the seconds left; never below zero."""
        return max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Return whether no time is left."""
        return time.monotonic() >= self.at

    def __str__(self) -> str:
        return f"{self.left():.3f} s left"


class Inherited:
    """
    The deadline of a call that is being served, until it is answered.

    A task that a handler leaves behind has a copy of the handler's context, and must not be held to a moment long past.
    """

    __slots__ = ("deadline",)

    def __init__(self, deadline: Deadline) -> None:
        self.deadline: Deadline | None = deadline

    def end(self) -> None:
        """Bind nobody any more."""
        self.deadline = None


current_deadline: ContextVar[Inherited | None] = ContextVar("lightbus_deadline", default=None)
"""The deadline of the call this code is serving; calls made on the way inherit it."""
