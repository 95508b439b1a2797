"""Failures that recur, for as long as their cause lasts: said once, and not with every attempt."""

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


class _Said:
    """What was said of one thing."""

    __slots__ = ("again_at", "at", "held_back", "pause", "texts")

    def __init__(self, text: str, now: float) -> None:
        self.texts = {text}
        """All of them: two that take turns are no news either."""
        self.at = now
        self.pause = FIRST_PAUSE
        self.again_at = now + self.pause
        self.held_back = 0


class RecurringLog:
    """
    Logs what goes wrong again and again: once, then in words that are new, else after pauses that double.

    Any thread may use it.

    Args:
        logger: where it is logged.
        clock: a monotonic clock, in seconds.

    """

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[object, _Said] = {}
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
        held_back = self._held_back(key, words if changes else "")
        if held_back is None:
            return False
        again = f" ({held_back} times more since it was said last)" if held_back else ""
        self._logger.log(level, "%s%s", words, again, exc_info=None if held_back else exc_info)
        return True

    def over(self, key: object) -> bool:
        """Note that it works again; return whether something was said, so that this is worth saying, too."""
        with self._lock:
            return self._said.pop(key, None) is not None

    def _held_back(self, key: object, words: str) -> int | None:
        """Return how many messages were held back before this one; None where this one is to be, too."""
        now = self._clock()
        with self._lock:
            said = self._said.get(key)
            if said is None:
                if len(self._said) >= MOST_KEYS:
                    del self._said[next(iter(self._said))]
                self._said[key] = _Said(words, now)
                return 0
            is_known = words in said.texts
            due = said.again_at if is_known else said.at + CHANGE_PAUSE
            if now < due:
                said.held_back += 1
                return None
            held_back, said.held_back = said.held_back, 0
            if is_known:
                said.pause = min(2 * said.pause, LONGEST_PAUSE)
            else:
                if len(said.texts) >= MOST_TEXTS:
                    said.texts.clear()
                said.texts.add(words)
                held_back = 0
            said.at, said.again_at = now, now + said.pause
            return held_back
