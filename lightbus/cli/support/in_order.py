"""Sort the events of several journals by time: stored events arrive from each journal at its own speed.

The events of one API from one journal arrive in order. An event is shown once no journal that is still delivering can
have an earlier one; a journal that has delivered nothing for QUIET seconds is assumed to have no more stored events.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count

from ...message import EventMessage

__all__ = ["HELD", "QUIET", "InOrder"]

QUIET = 0.5
"""Seconds without an event after which a journal is not waited for any more."""

HELD = 50_000
"""The most events held back: beyond that the earliest is shown even if its order is not certain."""


class InOrder:
    """
    Holds events back until their order over all journals is certain.

    Attributes:
        holds: whether it still holds events back; afterwards events are shown as they arrive.

    Arguments:
        show: called with each event, in order of publishing times, or in the journal's order if its clock went back.
        begun: when following began, in seconds since 1970: events published later are new, not stored ones.
        clock: a clock in seconds.

    """

    def __init__(
        self, show: Callable[[EventMessage], None], *, begun: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.holds = True
        self._show = show
        self._begun = begun
        self._clock = clock
        self._not_before: float | None = None
        """Until this time journals may not have delivered their first event; None before the first `look`."""
        self._held: list[tuple[float, int, EventMessage]] = []
        self._number = count()
        self._newest: dict[tuple[str, str], float] = {}
        """(Journal, API) -> the time of its newest event; never decreases."""
        self._heard: dict[tuple[str, str], float] = {}
        """(Journal, API) -> when it delivered last: each API is delivered separately."""

    def add(self, message: EventMessage) -> None:
        """Add an event; show it at once if nothing is held back any more."""
        if not self.holds:
            self._show(message)
            return
        source = message.native_id.rpartition("-")[0] or message.publisher, message.api_name
        at = max(message.published_at, self._newest.get(source, 0.0))
        self._newest[source], self._heard[source] = at, self._clock()
        heapq.heappush(self._held, (at, next(self._number), message))
        if len(self._held) > HELD:
            self._show(heapq.heappop(self._held)[2])

    def look(self) -> None:
        """Show the events whose order is certain. Call it regularly, once all publishers have confirmed."""
        now = self._clock()
        if self._not_before is None:
            self._not_before = now + QUIET
        if not self.holds or now < self._not_before:
            return
        delivering = [self._newest[source] for source, heard in self._heard.items() if now - heard < QUIET]
        until = min(delivering, default=float("inf"))
        if until >= self._begun:  # no more stored events are arriving
            self.holds, until = False, float("inf")
        while self._held and self._held[0][0] <= until:
            self._show(heapq.heappop(self._held)[2])
