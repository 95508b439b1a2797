"""How often each client may ask: so many times a second, and a little more at once (a token bucket for each)."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RateLimit"]

MAX_CLIENTS = 10_000
"""Clients that are remembered: who has asked least lately is forgotten first, and may then ask anew."""


class RateLimit:
    """
    Counts requests.

    Args:
        per_second: requests that each client may send; 0 for any number.
        burst: requests that it may send at once, after it has sent none for a while.

    """

    def __init__(self, per_second: float, burst: float | None = None) -> None:
        self._per_second = per_second
        self._burst = max(1.0, 2 * per_second) if burst is None else burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Per client what it may still send, and when that was so, on a monotonic clock."""

    def wait(self, client: str, now: float) -> float:
        """Count a request; return 0, or the seconds until it may be sent where it is one too many."""
        if not self._per_second:
            return 0.0
        left, at = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        is_admitted = left >= 1
        self._left[client] = (left - 1 if is_admitted else left), now
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if is_admitted else (1 - left) / self._per_second
