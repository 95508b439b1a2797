"""
The last guard around what strangers send: whatever a message leads to, its handler raises nothing.

It is counted, and logged the first time with its traceback, then in ever longer intervals: a peer that sends nonsense
must not fill the log.
"""

from __future__ import annotations

import logging
from collections import Counter

from ..phrases import INTERNAL_ERROR

__all__ = ["Guard"]

UNREADABLE = "unreadable"


class Guard:
    """
    Counts and logs what could not be handled, by what it was. Only touched from one loop.

    Args:
        logger: where it is logged.

    """

    MAX_KINDS = 1000
    """Kinds of errors that are counted separately."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def total(self) -> int:
        """How much there was so far."""
        return self._counts.total()

    @property
    def failures(self) -> int:
        """How much of that was our error: messages that could be read, and not be handled."""
        return sum(number for (what, _), number in self._counts.items() if what != UNREADABLE)

    def unreadable(self, who: object, error: Exception) -> None:
        """Count a message that could not be read."""
        number = self._number(UNREADABLE, type(error).__name__)
        if _is_due(number):
            self._logger.warning(
                "%d messages could not be read so far and were ignored, the last one of %s: %s",
                number, who, f"{error!s:.500}",
            )  # fmt: skip

    def failed(self, who: object, message: object, error: Exception) -> None:
        """Count a message that could not be handled: an internal error, whatever is in it."""
        what = message if isinstance(message, str) else f"a {type(message).__name__} message"
        number = self._number(what, type(error).__name__)
        if _is_due(number):
            self._logger.error(
                "%d failures so far to handle %s of %s, which is ignored: %s: %s (%s)",
                number, what, who, type(error).__name__, f"{error!s:.500}", INTERNAL_ERROR,
                exc_info=error if number == 1 else None,
            )  # fmt: skip

    def _number(self, *what: str) -> int:
        key = (what[0], what[1])
        if key not in self._counts and len(self._counts) >= self.MAX_KINDS:
            key = ("others", "")
        self._counts[key] += 1
        return self._counts[key]


def _is_due(number: int) -> bool:
    """Return whether the time of this number is logged: 1, 10, 100, 1000 and so on."""
    return str(number).rstrip("0") == "1"
