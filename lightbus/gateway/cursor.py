"""The position of a stream, as sent in `Last-Event-ID`: for each journal the last sequence that was sent."""

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
"""The most characters of a cursor's text: the head of a request holds twice as many."""

PLAIN_TEXT = 1024
"""The most characters of journals and sequences as plain text; longer ones are packed, to less than half."""

PACKED = "~"

CLOCK_TOLERANCE = 60.0
"""Seconds that the clocks of hosts may differ: some events may be sent too many, but none is left out."""


@dataclass(slots=True, kw_only=True)
class Cursor:
    """
    A position in the events of one name.

    Attributes:
        since: seconds since 1970: of journals that are not in `places`, no older events are sent.
        places: the last sequence sent, by journal.

    """

    since: float
    places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Parse the text that `str()` returned for a cursor. Raises InvalidArguments for any other text."""
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
        Return whether an event has still to be sent.

        Args:
            journal, sequence: its place.
            published_at: when it was fired.
            is_old: whether it was in the journal when the journal was seen first.

        """
        place = self.places.get(journal)
        if place is None:
            return not is_old or published_at >= self.since
        return sequence > place


def _packed(places: dict[str, int]) -> str:
    """Encode places in base64: for each journal its eight bytes, the length of the sequence, and the sequence."""
    packed = bytearray()
    for journal, place in places.items():
        size = (place.bit_length() + 7) // 8
        packed += bytes.fromhex(journal) + bytes([size]) + place.to_bytes(size, "big")
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _unpacked(text: str) -> Iterator[tuple[str, int]]:
    """Decode the text of `_packed`. Raises ValueError for any other text."""
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
