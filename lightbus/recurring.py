"""
Messages that recur while their cause lasts: logged once, and not at every attempt.

Messages that peers can cause about ever new things are limited, too: so many a minute, the rest is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["RecurringLog"]

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 6 * 3600.0
"""Seconds between two messages with the same text: doubled from the first to the longest."""

CHANGE_PAUSE = 5.0
"""The fewest seconds between two messages with different texts about one thing."""

MOST_TEXTS = 20
"""The most texts about one thing that are remembered."""

MOST_KEYS = 1000
"""The most things that are remembered; the oldest is forgotten first."""

MOST_LINES, PERIOD = 100, 60.0
"""The most messages in so many seconds, over all things: a peer that makes up names must not fill the log."""


class _RepeatedMessage:
    """The messages about one thing."""

    __slots__ = ("again_at", "at", "pause", "suppressed", "texts")

    def __init__(self, text: str, now: float) -> None:
        self.texts = {text}
        """All texts, and not only the last: of two that alternate, neither counts as new."""
        self.at = now
        self.pause = FIRST_PAUSE
        self.again_at = now + self.pause
        self.suppressed = 0


class RecurringLog:
    """
    Logs errors that recur: once, then whenever the text is new, otherwise after pauses that double.

    It logs no more than `MOST_LINES` in a `PERIOD`: the last line says that further ones are held back, the first line
    of the next period how many there were.

    Any thread may use it.

    Args:
        logger: where it is logged.
        clock: a monotonic clock, in seconds.

    """

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._logged: dict[object, _RepeatedMessage] = {}
        self._begun = -PERIOD
        self._lines = 0
        """Lines logged since `_begun`."""
        self._dropped = 0
        """Lines held back since then, because there were too many."""
        self._lock = threading.Lock()

    def log(
        self,
        key: object,
        level: int,
        text: str,
        *arguments: object,
        changes: bool = True,
        exc_info: BaseException | None = None,
    ) -> bool:
        """
        Log a message about `key` (what fails), unless it was logged recently; return whether it was logged.

        The next logged message ends with the number of those held back. Only the first has a traceback. Without
        `changes`, a message with another text (a number of seconds, for example) does not count as new.
        """
        words = text % arguments if arguments else text
        with self._lock:
            now = self._clock()
            note = self._summary(now)
            suppressed = None if note is None else self._suppressed(key, words if changes else "", now)
            if note is None or suppressed is None:
                return False
            self._lines += 1
            self._dropped = 0
        again = f" ({suppressed} times more since this was last logged)" if suppressed else ""
        self._logger.log(level, "%s%s%s", words, again, note, exc_info=None if suppressed else exc_info)
        return True

    def recovered(self, key: object) -> bool:
        """Record that `key` works again; return whether its failure was logged, so that the recovery should be, too."""
        with self._lock:
            return self._logged.pop(key, None) is not None

    def _summary(self, now: float) -> str | None:
        """Return the note to append about lines held back; None if this period has had too many lines."""
        if now - self._begun >= PERIOD:
            self._begun, self._lines = now, 0
        if self._lines >= MOST_LINES:
            self._dropped += 1
            return None
        if self._lines == 0 and self._dropped:
            return f" ({self._dropped} other lines were held back: there were too many)"
        return f" (further ones are held back for {PERIOD:g} s)" if self._lines == MOST_LINES - 1 else ""

    def _suppressed(self, key: object, words: str, now: float) -> int | None:
        """Return how many messages were held back before this one; None if this one is held back, too."""
        known = self._logged.get(key)
        if known is None:
            if len(self._logged) >= MOST_KEYS:
                del self._logged[next(iter(self._logged))]
            self._logged[key] = _RepeatedMessage(words, now)
            return 0
        is_known = words in known.texts
        due = known.again_at if is_known else known.at + CHANGE_PAUSE
        if now < due:
            known.suppressed += 1
            return None
        suppressed, known.suppressed = known.suppressed, 0
        if is_known:
            known.pause = min(2 * known.pause, LONGEST_PAUSE)
        else:
            if len(known.texts) >= MOST_TEXTS:
                known.texts.clear()
            known.texts.add(words)
            suppressed = 0
        known.at, known.again_at = now, now + known.pause
        return suppressed
