"""
Whether handlers in threads take the processor from each other. Facts and the time in, decisions out.

One thread at a time holds the global interpreter lock. To get it takes up to 5 ms (`sys.getswitchinterval()`) for each
thread that computes, also for the loop, which is to read, answer and refuse meanwhile: two that compute do no more than
one does, and are in the way of all the rest. That others compute, a listener, say, is no reason to have fewer threads:
handlers that only wait for something are not quicker one after another.
"""

from __future__ import annotations

__all__ = ["ProcessorUse"]

SATURATED = 0.9
COMPUTING = 0.5
"""
Shares of one processor: where the process uses more than the first, and handlers in threads more than the second, these
take it from each other.
"""


class ProcessorUse:
    """
    The measured use of the processor.

    Attributes:
        computed: seconds that handlers have computed in threads since it was last looked.
        look_at: when it is to be looked again, in the time of `look`.

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
        """Return whether handlers in threads take it from each other. Nothing is believed for two periods or longer."""
        return self._is_shared and now - self._looked_at < 2 * (self.look_at - self._looked_at)
