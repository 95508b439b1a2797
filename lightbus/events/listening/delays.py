"""How long it took from firing an event until a listener had handled it: the latest times, by event and publisher."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

__all__ = ["LATEST", "MAX_PAIRS", "Delays"]

LATEST = 100
"""Delays that are kept of each event and publisher: the latest, so that a percentile of them shows the present."""

MAX_PAIRS = 100
"""Pairs of an event and a publisher whose delays are kept: those with the latest delays."""


class Delays:
    """
    The delays of one listener, in seconds. Only touched from the node's loop.

    A delay is the time of this host's clock when the handler has returned, less the time of the firing host's clock
    when the event was fired: with clocks that differ it may be negative. The time in which the event was in an outbox,
    waited for a retry or was a dead letter is part of it. Of events that are handled in one run only the last one is
    measured.
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], deque[float]] = {}
        """The pair with the latest delay comes last."""

    def note(self, event: str, publisher: str, fired_at: float) -> None:
        """Add the delay of an event that was handled just now."""
        key = event, publisher
        delays = self._latest.pop(key, None)
        if delays is None:
            delays = deque(maxlen=LATEST)
            if len(self._latest) >= MAX_PAIRS:
                del self._latest[next(iter(self._latest))]
        self._latest[key] = delays
        delays.append(time.time() - fired_at)

    def __iter__(self) -> Iterator[tuple[str, str, list[float]]]:
        """Return each event and publisher with its delays in ascending order."""
        return ((*key, sorted(delays)) for key, delays in self._latest.items())
