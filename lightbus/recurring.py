"""
What recurs for as long as its cause lasts: said once, and not with every attempt.

And what others cause, each time about another thing: so many lines a minute, and how many more there were.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["RecurringLog"]

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 6 * 3600.0
"""Seconds between two messages of the same words: doubled from the first to the longest."""

CHANGE_PAUSE = 5.0
"""Seconds between two messages of different words about one thing: what differs each time is no news."""

MOST_TEXTS = 20
"""Texts about one thing that are remembered."""

MOST_KEYS = 1000
"""Things that are remembered; the oldest is forgotten first."""

MOST_LINES, PERIOD = 100, 60.0
"""Messages in so many seconds, about whatever things: a peer that makes up names must not fill the log."""


class _RepeatedMessage:
    """What was said of one thing."""

    __slots__ = ("again_at", "at", "pause", "suppressed", "texts")

    def __init__(self, text: str, now: float) -> None:
        self.texts = {text}
        """All of them: two that take turns are no news either."""
        self.at = now
        self.pause = FIRST_PAUSE
        self.again_at = now + self.pause
        self.suppressed = 0


class RecurringLog:
    """
    Logs what goes wrong again and again: once, then in words that are new, else after pauses that double.

    And no more than `MOST_LINES` in a `PERIOD`: the last of them says that others are held back, the next how many.

    Any thread may use it.

    Args:
        logger: where it is logged.
        clock: a monotonic clock, in seconds.

    """

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[object, _RepeatedMessage] = {}
        self._begun = -PERIOD
        self._lines = 0
        """Logged since `_begun`."""
        self._untold = 0
        """Held back since, because there were too many."""
        self._lock = threading.Lock()

    def say(
        self,
        key: object,
        level: int,
        text: str,
        *arguments: object,
        changes: bool = True,
        exc_info: BaseException | None = None,
    ) -> bool:
        """
        Log a message about `key` (what fails), unless it was said lately; return whether it was logged.

        Those that were held back meanwhile are counted at the end of the next. A traceback is part of the first only.
        Without `changes`, other words (a number of seconds, say) are no news.
        """
        words = text % arguments if arguments else text
        with self._lock:
            now = self._clock()
            crowd = self._summary(now)
            suppressed = None if crowd is None else self._suppressed(key, words if changes else "", now)
            if crowd is None or suppressed is None:
                return False
            self._lines += 1
            self._untold = 0
        again = f" ({suppressed} times more since it was said last)" if suppressed else ""
        self._logger.log(level, "%s%s%s", words, again, crowd, exc_info=None if suppressed else exc_info)
        return True

    def over(self, key: object) -> bool:
        """Note that it works again; return whether something was said, so that this is worth saying, too."""
        with self._lock:
            return self._said.pop(key, None) is not None

    def _summary(self, now: float) -> str | None:
        """Return what is to be said of the lines of this period; None where there were too many."""
        if now - self._begun >= PERIOD:
            self._begun, self._lines = now, 0
        if self._lines >= MOST_LINES:
            self._untold += 1
            return None
        if self._lines == 0 and self._untold:
            return f" ({self._untold} other lines were held back: there were too many)"
        return f" (further ones are held back for {PERIOD:g} s)" if self._lines == MOST_LINES - 1 else ""

    def _suppressed(self, key: object, words: str, now: float) -> int | None:
        """Return how many messages were held back before this one; None where this one is to be, too."""
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= MOST_KEYS:
                del self._said[next(iter(self._said))]
            self._said[key] = _RepeatedMessage(words, now)
            return 0
        is_known = words in said.texts
        due = said.again_at if is_known else said.at + CHANGE_PAUSE
        if now < due:
            said.suppressed += 1
            return None
        suppressed, said.suppressed = said.suppressed, 0
        if is_known:
            said.pause = min(2 * said.pause, LONGEST_PAUSE)
        else:
            if len(said.texts) >= MOST_TEXTS:
                said.texts.clear()
            said.texts.add(words)
            suppressed = 0
        said.at, said.again_at = now, now + said.pause
        return suppressed
