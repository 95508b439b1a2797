"""How large a message may be where the sides have different limits, and what stands for an event that is too large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import codec
from .field_types import MAX_ROWS

__all__ = [
    "LEAST",
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
"""Bytes that every receiver accepts: no setting may be lower."""

RECORD_OVERHEAD = 32
"""Bytes of a record's entry besides the record: two numbers, and what msgpack notes of their kinds and lengths."""

PAGE_OVERHEAD = 64
"""Bytes of a PAGE besides its records."""

STREAM_OVERHEAD = 64
"""Bytes of what is said of a topic in STREAMS, besides the event's name."""

MAX_RECEIVERS = 10_000


class Receivers:
    """
    How large a message each subscriber accepts. Only touched from the node's loop.

    Args:
        own: bytes that we may send ourselves.

    Attributes:
        smallest: bytes that all of them take.

    """

    def __init__(self, own: int) -> None:
        self._own = self.smallest = own
        self._sizes: dict[bytes, int] = {}
        """Of those that accept less than we may send, by their presence topics."""

    def joined(self, presence: bytes, size: int) -> None:
        """Record the size that a receiver accepts; 0 if it does not say."""
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
        """Return the bytes that an answer to a receiver of so many may have; 0 if it does not say."""
        return most(self._own, size)

    def _look(self) -> None:
        self.smallest = min(self._sizes.values(), default=self._own)


def most(own: int, other: int) -> int:
    """Return the bytes that a message of ours to a receiver of `other` may have; 0: it does not say."""
    return min(own, max(LEAST, other)) if other > 0 else own


def fitting(entries: Iterable[tuple[int, int, bytes]], size: int) -> tuple[list[Any], bool]:
    """
    Return the rows of a PAGE that may have so many bytes, and whether all entries are among them.

    In place of a record that is too large even by itself stands how large it is, so that what follows can be sent.
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
    Return the partitions of which everything is said in a STREAMS that may have so many bytes, and what is said.

    It is at least one: the others are asked for again.
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
    """Return what takes the place of a record that was left out of a PAGE: no record, but it goes where one goes."""
    return codec.encode(size)


def size_left_out(record: bytes) -> int | None:
    """Return how large the record was that this stands for; None where it is no stand-in."""
    if len(record) > len(placeholder(2**63 - 1)):
        return None
    size = codec.decode(record)
    return size if type(size) is int and size >= 0 else None
