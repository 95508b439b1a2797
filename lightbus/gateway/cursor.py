"""How far a stream has come, as it stands in `Last-Event-ID`: for each journal up to which sequence it was given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..events.events_api import split_native_id
from ..exceptions import InvalidArguments

__all__ = ["CLOCK_TOLERANCE", "MAX_TEXT", "Cursor"]

MAX_TEXT = 16 * 1024
"""Characters of the text: a request's head holds twice as many."""

CLOCK_TOLERANCE = 60.0
"""Seconds that the clocks of hosts may be apart: rather more is given than something left out."""


@dataclass(slots=True, kw_only=True)
class Cursor:
    """
    A place in the events of one name.

    Attributes:
        since: a time of day, in seconds since 1970: of journals that are not among `places`, nothing older is given.
        places: sequences by journal; what is behind them is given next.

    """

    since: float
    places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Return the place that a text of `str()` means. Raises InvalidArguments where it means none."""
        since, separator, rest = text.partition("@")
        try:
            if not separator or len(text) > MAX_TEXT or not math.isfinite(moment := float(since)):
                raise ValueError
            return cls(since=moment, places=dict(map(split_native_id, rest.split(",") if rest else ())))
        except ValueError:
            raise InvalidArguments(
                f"{text!r:.100} is no id of a stream of this gateway. Send in Last-Event-ID the `id` of the event that "
                "came last, as it came; or leave it out, and name a time (?since=) where older events are wanted."
            ) from None

    def __str__(self) -> str:
        return f"{self.since:.3f}@{','.join(f'{journal}-{place}' for journal, place in self.places.items())}"

    def admits(self, journal: str, sequence: int, published_at: float, *, is_old: bool) -> bool:
        """
        Return whether an event is still to be given.

        Args:
            journal, sequence: where it is.
            published_at: when it was fired.
            is_old: whether it was there when the journal was seen first.

        """
        place = self.places.get(journal)
        if place is None:
            return not is_old or published_at >= self.since
        return sequence > place
