"""The size of messages between peers with different limits, and the placeholder of an event that is too large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import codec
from .field_types import MAX_ROWS

__all__ = [
    "LEAST",
    "NO_LIMIT",
    "PAGE_OVERHEAD",
    "RECORD_OVERHEAD",
    "Receivers",
    "fitting",
    "fitting_partitions",
    "most",
    "placeholder",
    "size_left_out",
]

LEAST = 1024
"""Bytes of a message that every receiver accepts: no setting may be lower."""

NO_LIMIT = 2**63 - 1
"""Bytes of a message to a receiver that has not given a limit."""

RECORD_OVERHEAD = 32
"""Bytes of a record's entry besides the record: two numbers, and msgpack's type and length bytes."""

PAGE_OVERHEAD = 64
"""Bytes of a PAGE besides its records."""

STREAM_OVERHEAD = 64
"""Bytes of a topic's entry in STREAMS, besides the event's name."""

MAX_RECEIVERS = 10_000


class Receivers:
    """
    The largest message that each subscriber accepts. Only touched from the node's loop.

    Args:
        own: the largest message that we may send, in bytes.

    Attributes:
        smallest: the largest message that all of them accept, in bytes.

    """

    def __init__(self, own: int) -> None:
        self._own = self.smallest = own
        self._sizes: dict[bytes, int] = {}
        """The sizes of receivers that accept less than we may send, by their presence topics."""

    def joined(self, presence: bytes, size: int) -> None:
        """Record the size that a receiver accepts; 0 if not given."""
        before = self._sizes.pop(presence, None)
        if 0 < size < self._own:
            self._sizes[presence] = max(LEAST, size)
            if len(self._sizes) > MAX_RECEIVERS:
                del self._sizes[next(iter(self._sizes))]
        if before is not None or presence in self._sizes:
            self._look()

    def left(self, presence: bytes) -> None:
        """Forget a receiver."""
        if self._sizes.pop(presence, None) is not None:
            self._look()

    def most(self, size: int) -> int:
        """Return the largest answer to a receiver that accepts `size` bytes (0: not given)."""
        return most(self._own, size)

    def _look(self) -> None:
        self.smallest = min(self._sizes.values(), default=self._own)


def most(own: int, other: int) -> int:
    """Return the largest message from a sender with the limit `own` to a receiver with `other` (0: not given)."""
    return min(own, max(LEAST, other)) if other > 0 else own


def fitting(entries: Iterable[tuple[int, int, bytes]], size: int) -> tuple[list[Any], bool]:
    """
    Return the rows of a PAGE of at most `size` bytes, and whether they are all entries.

    A record that is too large even alone is replaced by its size, so that the following ones can be sent.
    """
    rows: list[Any] = []
    room = size - PAGE_OVERHEAD
    left = room
    for sequence, previous, record in entries:
        is_left_out = len(record) + RECORD_OVERHEAD > room
        taken = RECORD_OVERHEAD + (0 if is_left_out else len(record))
        if rows and taken > left:
            return rows, False
        rows.append([sequence, previous, len(record) if is_left_out else record])
        left -= taken
    return rows, True


def fitting_partitions(
    partitions: Iterable[int], streams: Iterable[list[Any]], size: int
) -> tuple[list[int], list[list[Any]]]:
    """
    Return the partitions that fit completely in a STREAMS of at most `size` bytes, and their rows.

    It is at least one partition: the others are requested again.
    """
    by_partition: dict[int, list[list[Any]]] = {}
    for stream in streams:
        by_partition.setdefault(stream[2], []).append(stream)
    taken: list[int] = []
    rows: list[list[Any]] = []
    left = size - LEAST // 2
    for partition in partitions:
        mine = by_partition.get(partition, [])
        left -= sum(STREAM_OVERHEAD + len(stream[1].encode()) for stream in mine)
        if taken and (left < 0 or len(rows) + len(mine) > MAX_ROWS):
            break
        taken.append(partition)
        rows += mine
    return taken, rows


def placeholder(size: int) -> bytes:
    """Return the placeholder of a record that was left out of a PAGE: it is handled like a record, and is none."""
    return codec.encode(size)


def size_left_out(record: bytes) -> int | None:
    """Return the size of the record that a placeholder replaces; None for a real record."""
    if len(record) > len(placeholder(2**63 - 1)):
        return None
    size = codec.decode(record)
    return size if type(size) is int and size >= 0 else None
