"""The moment by which a call must be answered, and the context that code serving a call inherits from the call.

A deadline is made once, where the user's code calls, and passed down.

The wire carries the time left and not the moment: the clocks of two hosts do not agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["LONGEST", "Deadline", "ServedCall", "current_call", "current_chain"]

LONGEST = 366 * 24 * 3600.0
"""The most seconds to a deadline: the number may come from an untrusted peer, and be too large for a float."""


class Deadline:
    """
    A moment on this process's monotonic clock. Immutable.

    A plain class, because one is made for each call on both sides, and a frozen dataclass takes five times as long.

    Attributes:
        at: the moment, in seconds of `time.monotonic()`.
        given: the seconds to the moment when the deadline was made.
        is_inherited: whether it is the deadline of the call being served, which is sooner than the one asked for.

    """

    __slots__ = ("at", "given", "is_inherited")

    def __init__(self, at: float, given: float = 0.0, *, is_inherited: bool = False) -> None:
        self.at = at
        self.given = given
        self.is_inherited = is_inherited

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now, or the one of the call being served, if that is sooner."""
        now = time.monotonic()
        if seconds > LONGEST:
            seconds = LONGEST
        served = current_call.get()
        if served is not None and (outer := served.deadline) is not None and outer.at < now + seconds:
            return cls(outer.at, max(0.0, outer.at - now), is_inherited=True)
        return cls(now + seconds, seconds)

    @classmethod
    def in_seconds(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now, whatever is being served here."""
        seconds = min(seconds, LONGEST)
        return cls(time.monotonic() + seconds, seconds)

    def left(self) -> float:
        """Return the seconds left; never below zero."""
        left = self.at - time.monotonic()
        return left if left > 0.0 else 0.0

    def passed(self) -> bool:
        """Return whether no time is left."""
        return time.monotonic() >= self.at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Deadline) and self.at == other.at

    def __hash__(self) -> int:
        return hash(self.at)

    def __str__(self) -> str:
        return f"{self.left():.3f} s left"

    def __repr__(self) -> str:
        return f"<Deadline: {self}>"


class ServedCall:
    """
    The context that code serving a call inherits from the call, until the call is answered.

    A task that outlives its handler has a copy of the handler's context, but is not part of the call any more: the
    call's deadline must not apply to it, and no caller waits for the calls it makes.

    Attributes:
        deadline: by when the call must be answered; None once it is answered.
        outer: the marks of the processes in which a call waits for this call, outermost first.

    """

    __slots__ = ("_make_mark", "_mark", "deadline", "outer")

    def __init__(
        self, deadline: Deadline, outer: tuple[str, ...] = (), make_mark: Callable[[], str] | None = None
    ) -> None:
        self.deadline: Deadline | None = deadline
        self.outer = outer
        self._make_mark = make_mark
        self._mark: tuple[str, ...] = ()

    @property
    def chain(self) -> tuple[str, ...]:
        """
        The marks of all processes that wait for the calls this call makes, its own last; none once it is answered.

        Its own mark is made at first use: most calls make no further call.
        """
        make_mark = self._make_mark  # another thread may end the call meanwhile
        if make_mark is not None and not self._mark:
            self._mark = (make_mark(),)
        return self.outer + self._mark

    def end(self) -> None:
        """Mark the call as answered: calls made from now on inherit nothing from it."""
        self.deadline, self.outer, self._mark, self._make_mark = None, (), (), None


current_call: ContextVar[ServedCall | None] = ContextVar("lightbus_call", default=None)
"""The call that this code is serving. Calls made by it inherit its deadline, and carry the marks of who waits."""


def current_chain() -> tuple[str, ...]:
    """Return the marks of the processes that wait for the call being served here; none outside of a call."""
    served = current_call.get()
    return () if served is None else served.chain
