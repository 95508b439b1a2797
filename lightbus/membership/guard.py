"""
Counts and logs messages that could not be read or handled, so that nothing a peer sends raises out of a handler.

The first error of a kind is logged with its traceback, then the 10th, 100th and so on: a peer that sends garbage must
not fill the log.
"""

from __future__ import annotations

import logging
from collections import Counter

from ..phrases import INTERNAL_ERROR

__all__ = ["Guard"]

UNREADABLE = "unreadable"


class Guard:
    """
    Counts and logs errors by kind. Only touched from one loop.

    Args:
        logger: logs the errors.

    """

    MAX_KINDS = 1000
    """Kinds of errors counted separately."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def total(self) -> int:
        """The number of all errors."""
        return self._counts.total()

    @property
    def failures(self) -> int:
        """The number of internal errors: messages that could be read, but not handled."""
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
        """Count a message that could not be handled. That is an internal error, whatever the message contains."""
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
    """Return whether the error with this number is logged: 1, 10, 100, 1000 and so on."""
    return str(number).rstrip("0") == "1"
