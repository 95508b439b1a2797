"""Events of several journals in order of time: those that are kept arrive journal by journal, as fast as each can.

The events that a journal has of one API are in order in themselves. An event is shown once no journal that still
delivers can have an earlier one; one that has delivered nothing for a moment is taken to have no more that is kept.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count

from ...message import EventMessage

__all__ = ["HELD", "QUIET", "InOrder"]

QUIET = 0.5
"""Seconds after which a journal that delivers nothing is not waited for."""

HELD = 50_000
"""Events that are held back at most: where more are, the earliest of them is shown, in order or not."""


class InOrder:
    """
    Holds events back until those of all journals can be told apart by time.

    Attributes:
        holds: whether it still does. What comes afterwards is shown as it comes.

    Arguments:
        show: is given each event, in order of the times of publishing, and of the journal where clocks went back.
        begun: when following began, in seconds since 1970: what is published later is not kept, but new.
        clock: seconds of any clock.

    """

    def __init__(
        self, show: Callable[[EventMessage], None], *, begun: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.holds = True
        self._show = show
        self._begun = begun
        self._clock = clock
        self._not_before: float | None = None
        """Until then a journal may not have delivered its first event; None before the first look."""
        self._held: list[tuple[float, int, EventMessage]] = []
        self._number = count()
        self._newest: dict[tuple[str, str], float] = {}
        """Per journal and API the time of the newest event, and never an earlier one than before."""
        self._heard: dict[tuple[str, str], float] = {}
        """Per journal and API when it delivered last: the events of each API come by themselves."""

    def add(self, message: EventMessage) -> None:
        """Take an event in; show what can be shown."""
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
        """Show what can be shown by now; to be called now and then, once all publishers know what is wanted."""
        now = self._clock()
        if self._not_before is None:
            self._not_before = now + QUIET
        if not self.holds or now < self._not_before:
            return
        delivering = [self._newest[source] for source, heard in self._heard.items() if now - heard < QUIET]
        until = min(delivering, default=float("inf"))
        if until >= self._begun:  # nothing that is kept is on its way any more
            self.holds, until = False, float("inf")
        while self._held and self._held[0][0] <= until:
            self._show(heapq.heappop(self._held)[2])
