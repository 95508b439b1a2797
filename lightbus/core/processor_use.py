"""
Whether handlers in threads compete for one processor. Facts and the time in, decisions out.

One thread at a time holds the global interpreter lock. Getting it takes up to 5 ms (`sys.getswitchinterval()`) for each
computing thread, also for the event loop, which must read, answer and refuse calls. Two computing handlers do no more
work than one, and delay everything else. If other code computes (a listener, for example), that is no reason for fewer
threads: handlers that only wait for something are not quicker one after another.
"""

from __future__ import annotations

__all__ = ["ProcessorUse"]

SATURATED = 0.9
COMPUTING = 0.5
"""
Shares of one processor: if the process uses more than the first, and handlers in threads more than the second, the
handlers compete for it.
"""


class ProcessorUse:
    """
    The measured use of the processor.

    Attributes:
        computed: processor seconds of handlers in threads since the last `look`.
        look_at: when to call `look` again, by the clock of `now`.

    """

    def __init__(self) -> None:
        self.computed = 0.0
        self.look_at = 0.0
        self._cpu = self._looked_at = 0.0
        self._is_shared = False

    def look(self, cpu: float, now: float, period: float) -> None:
        """Record how many seconds of processor time the process has used so far; look again after a period."""
        passed = now - self._looked_at
        self._is_shared = cpu - self._cpu > SATURATED * passed and self.computed > COMPUTING * passed
        self._cpu, self._looked_at, self.look_at = cpu, now, now + period
        self.computed = 0.0

    def is_shared(self, now: float) -> bool:
        """Return whether handlers in threads compete for the processor. A measurement is valid for two periods."""
        return self._is_shared and now - self._looked_at < 2 * (self.look_at - self._looked_at)
