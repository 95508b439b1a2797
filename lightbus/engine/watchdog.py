"""Finds code that blocks the event loop: a thread checks the loop's heartbeat, and logs the code when it is missing."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from ..core.beats import next_beat
from ..recurring import RecurringLog

__all__ = ["Watchdog", "blocking_location"]

logger = logging.getLogger("lightbus.watchdog")

LOOK_EVERY = 0.25
BLOCKED_AFTER = 0.5
"""Seconds without a beat after which the loop counts as blocked: half of a stall after which calls are refused."""

REPORT_AFTER = BLOCKED_AFTER + LOOK_EVERY
"""Seconds after a beat when the thread checks for the next one, so that it seldom wakes while there are beats."""


def blocking_location(frame: FrameType | None) -> str:
    """
    Return the place in the user's code where the loop is blocked: `"fetch (shop.py:12)"`.

    That is the first frame, seen from the loop, outside of this package and asyncio.
    """
    ours = (__name__.partition(".")[0] + ".", "asyncio.")
    found = "unknown code"
    for each, line in traceback.walk_stack(frame):  # innermost first
        module = str(each.f_globals.get("__name__", ""))
        if module in ("asyncio.events", "asyncio.runners"):  # the loop's call of the callback
            break
        if not f"{module}.".startswith(ours):
            found = f"{each.f_code.co_name} ({each.f_code.co_filename}:{line})"
    return found


class Watchdog:
    """
    Reports a blocked loop, once per blockage. Made and started on the loop that it watches.

    If the whole process was stopped (SIGSTOP, a sleeping laptop), no code blocks the loop: the thread then missed its
    own wake-up, too, and reports nothing.
    """

    def __init__(self) -> None:
        self.reports = 0
        self._log = RecurringLog(logger)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._delay = 0.0
        self._stop = threading.Event()
        self._timer: asyncio.Handle | None = None
        self._thread = threading.Thread(target=self._watch, name="lightbus-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching. Until then the loop counts as running."""
        self._beat_at = time.monotonic()
        self._timer = self._loop.call_soon(self._beat)
        self._thread.start()

    @property
    def delay(self) -> float:
        """By how many seconds the loop's last beat was late, or the next one is late by now."""
        return max(self._delay, self.silence - LOOK_EVERY)

    @property
    def silence(self) -> float:
        """Seconds since the loop's last beat."""
        return 0.0 if self._timer is None else time.monotonic() - self._beat_at

    def stop(self) -> None:
        """End the thread, if it was started."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._stop.set()
        self._thread.join(1.0)

    def _beat(self) -> None:
        now = time.monotonic()
        self._delay = max(0.0, now - self._beat_at - LOOK_EVERY)
        self._beat_at = now
        self._timer = self._loop.call_at(next_beat(self._loop.time(), LOOK_EVERY), self._beat)

    def _watch(self) -> None:
        reported = 0.0
        look_at = self._beat_at + REPORT_AFTER
        while not self._stop.wait(max(0.0, look_at - time.monotonic())):
            now, beat_at = time.monotonic(), self._beat_at
            was_stopped = now - look_at > LOOK_EVERY
            if was_stopped or beat_at == reported:  # give the loop time for its next beat
                look_at = now + LOOK_EVERY
            elif now - beat_at < REPORT_AFTER:
                look_at = beat_at + REPORT_AFTER
            else:
                reported, look_at = beat_at, now + LOOK_EVERY
                self._report(now - beat_at)

    def _report(self, seconds: float) -> None:
        self.reports += 1
        found = blocking_location(sys._current_frames().get(self._loop_thread))
        text = (
            "The event loop has been blocked for %.1f s by %s. While it is, nothing is served: "
            "make the handler a `def` (it then runs in a thread), or await what takes long."
        )
        self._log.log(found, logging.WARNING, text, seconds, found, changes=False)
