"""How long it took from firing an event until a listener had handled it: the latest times, by event and publisher."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

__all__ = ["LATEST", "MAX_PAIRS", "Delays", "note_delay"]

LATEST = 200
"""Times that are kept of each event and publisher: the latest, so that a percentile of them shows the present."""

MAX_PAIRS = 200
"""Pairs of an event and a publisher whose times are kept; where there are more, those that were noted first go."""


class Delays:
    """
    The delays of one listener, in seconds. Only touched from the node's loop.

    A delay is the time of this host's clock when the handler has returned, less the time of the firing host's clock
    when the event was fired: with clocks that differ it may be negative. Of events that are handled in one run only the
    last one is measured.
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], deque[float]] = {}

    def of(self, event: str, publisher: str) -> deque[float]:
        """Return the delays of an event from a publisher, for `note_delay` to add to."""
        key = event, publisher
        found = self._latest.get(key)
        if found is None:
            if len(self._latest) >= MAX_PAIRS:
                del self._latest[next(iter(self._latest))]
            found = self._latest[key] = deque(maxlen=LATEST)
        return found

    def __iter__(self) -> Iterator[tuple[str, str, list[float]]]:
        """Return each event and publisher that there are delays of, with these in ascending order."""
        return ((*key, sorted(delays)) for key, delays in self._latest.items() if delays)


def note_delay(delays: deque[float], fired_at: float) -> None:
    """Add the delay of an event that was handled just now."""
    delays.append(time.time() - fired_at)
