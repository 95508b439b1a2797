"""How far a stream has come, as it stands in `Last-Event-ID`: for each journal up to which sequence it was given."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..engine.events_api import split_native_id
from ..exceptions import InvalidArguments

__all__ = ["CLOCK_TOLERANCE", "MAX_TEXT", "Cursor"]

MAX_TEXT = 16 * 1024
"""Characters of the text: a request's head holds twice as many."""

PLAIN_TEXT = 1024
"""Characters that journals and sequences may have as they are; more of them are packed, to less than half."""

PACKED = "~"

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
            if rest.startswith(PACKED):
                return cls(since=moment, places=dict(_unpacked(rest.removeprefix(PACKED))))
            return cls(since=moment, places=dict(map(split_native_id, rest.split(",") if rest else ())))
        except ValueError:
            raise InvalidArguments(
                f"{text!r:.100} is no id of a stream of this gateway. Send in Last-Event-ID the `id` of the event that "
                "came last, as it came; or leave it out, and name a time (?since=) where older events are wanted."
            ) from None

    def __str__(self) -> str:
        text = ",".join(f"{journal}-{place}" for journal, place in self.places.items())
        return f"{self.since:.3f}@{text if len(text) <= PLAIN_TEXT else PACKED + _packed(self.places)}"

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


def _packed(places: dict[str, int]) -> str:
    """Return places in base64: of each journal its eight bytes, how many its sequence has, and these."""
    packed = bytearray()
    for journal, place in places.items():
        size = (place.bit_length() + 7) // 8
        packed += bytes.fromhex(journal) + bytes([size]) + place.to_bytes(size, "big")
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _unpacked(text: str) -> Iterator[tuple[str, int]]:
    """Yield the places of a text of `_packed`. Raises ValueError where it is none."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    at = 0
    while at < len(packed):
        size = packed[at + 8] if at + 8 < len(packed) else len(packed)
        sequence = packed[at + 9 : at + 9 + size]
        if len(sequence) < size:
            raise ValueError("it ends early")
        yield split_native_id(f"{packed[at : at + 8].hex()}-{int.from_bytes(sequence, 'big')}")
        at += 9 + size
