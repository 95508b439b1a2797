"""The rate limit of each client: so many requests a second, and a small burst (a token bucket for each)."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RateLimit"]

MAX_CLIENTS = 10_000
"""The most clients that are remembered: the least recently seen is forgotten first, and starts with a full bucket."""


class RateLimit:
    """
    Limits the requests of each client.

    Args:
        per_second: the requests a second that each client may send; 0 for no limit.
        burst: the requests that a client may send at once after a pause; by default twice `per_second`.

    """

    def __init__(self, per_second: float, burst: float | None = None) -> None:
        self._per_second = per_second
        self._burst = max(1.0, 2 * per_second) if burst is None else burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By client: the requests left in its bucket, and the time of that count, on a monotonic clock."""

    def wait(self, client: str, now: float) -> float:
        """Count a request; return 0 if it is admitted, else the seconds until the next one will be."""
        if not self._per_second:
            return 0.0
        left, at = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        is_admitted = left >= 1
        self._left[client] = (left - 1 if is_admitted else left), now
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if is_admitted else (1 - left) / self._per_second
