"""The rows of a journal: events of one topic that were stored together share a row.

The cost of storing a row depends on its bytes, hardly on its number of events. The sequences in a row have no gaps: the
row's sequence, which is that of its last event, and the number of events give them all.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "LENGTH_SIZE",
    "MAX_APART",
    "MAX_EVENTS",
    "MAX_SIZE",
    "Deletions",
    "JournalEntry",
    "entries_of",
    "joined",
    "portions",
    "row_with",
    "size_of",
]

MAX_EVENTS = 256
MAX_SIZE = 32 * 1024
"""Most events in a row, and most bytes of their records; a larger record has a row of its own."""

LENGTH_SIZE = 4
"""Bytes for the length of each record in a row of several events."""

MAX_APART = 0.1
"""Seconds by which an event may be younger or older than the first of its row: a row stores only one time."""


class JournalEntry(NamedTuple):
    """An event as read from the journal: its sequence, the one before it in its topic, its record."""

    sequence: int
    previous: int
    record: bytes


_new = tuple.__new__  # makes a JournalEntry of its fields in half the time


def portions(records: list[bytes]) -> list[list[bytes]]:
    """Split the records of consecutive events into portions that each fit in one row."""
    if len(records) <= MAX_EVENTS and sum(map(len, records)) <= MAX_SIZE:
        return [records]
    cut: list[list[bytes]] = []
    size = 0
    for record in records:
        size += len(record)
        if not cut or len(cut[-1]) == MAX_EVENTS or size > MAX_SIZE:
            cut.append([])
            size = len(record)
        cut[-1].append(record)
    return cut


def joined(records: Sequence[bytes]) -> bytes:
    """Return the data of a row: a single record as it is, else all lengths (32 bits each) and then all records."""
    if len(records) == 1:
        return records[0]
    return struct.pack(f">{len(records)}I", *map(len, records)) + b"".join(records)


def size_of(data: bytes, count: int) -> int:
    """Return the number of bytes in the records of a row."""
    return len(data) if count == 1 else len(data) - LENGTH_SIZE * count


def _split(data: bytes, count: int) -> list[bytes]:
    position = LENGTH_SIZE * count
    if type(count) is not int or not 0 < count <= MAX_EVENTS or len(data) < position:
        raise ValueError(f"a row of {len(data)} bytes does not have {count} events")
    records = []
    for length in struct.unpack_from(f">{count}I", data):
        records.append(data[position : position + length])
        position += length
    if position != len(data):
        raise ValueError(f"a row of {len(data)} bytes has {count} events of {position} bytes in all")
    return records


def entries_of(sequence: int, previous: int, count: int, data: bytes) -> list[JournalEntry]:
    """Return the events of a row, in order. Raises ValueError if the data does not have `count` events."""
    if count == 1:
        return [_new(JournalEntry, (sequence, previous, data))]
    entries = []
    for number, record in enumerate(_split(data, count), sequence - count + 1):
        entries.append(_new(JournalEntry, (number, previous, record)))
        previous = number
    return entries


def row_with(read: sqlite3.Connection, sequence: int) -> tuple[int, list[JournalEntry]]:
    """Return the topic's number and the events of the first row that ends at or after a sequence; (0, []) if none."""
    query = "SELECT topic, sequence, previous, count, record FROM events WHERE sequence >= ? ORDER BY sequence LIMIT 1"
    found = read.execute(query, (sequence,)).fetchone()
    return (0, []) if found is None else (found[0], entries_of(*found[1:]))


class Deletions:
    """Events to delete: whole rows, and the first events of other rows."""

    def __init__(self) -> None:
        self.count = self.size = self.through = 0
        """The number of events, their bytes, and the last sequence."""
        self.rows: list[tuple[int]] = []
        """The sequences of rows to delete as a whole."""
        self.shortened: list[tuple[int, bytes, int, int]] = []
        """What remains of the other rows: previous, records, number of events, and the sequence."""

    def row(self, sequence: int, count: int, size: int) -> None:
        """Add a whole row: its sequence, its number of events, and their bytes."""
        self.rows.append((sequence,))
        self.count += count
        self.size += size
        self.through = sequence

    def part(self, entries: list[JournalEntry], through: int) -> None:
        """Add the first events of a row, up to the sequence `through`."""
        left = [entry for entry in entries if entry.sequence > through]
        going = entries[: len(entries) - len(left)]
        records = joined([entry.record for entry in left])
        self.shortened.append((left[0].previous, records, len(left), left[-1].sequence))
        self.count += len(going)
        self.size += sum([len(entry.record) for entry in going])
        self.through = through
