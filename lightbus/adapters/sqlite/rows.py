"""The rows of a journal: events of one topic that were stored together share one.

Storing a row costs about as much as what is in it, however many events that are. The sequences in a row have no gaps,
so the row's own, which is that of its last event, and their number tell all of them.
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
"""Events that one row has at most, and bytes of their records; a larger record has a row of its own."""

LENGTH_SIZE = 4
"""Bytes that a row of several events has besides their records, for each of them: its length."""

MAX_APART = 0.1
"""Seconds by which an event may be younger or older than the first of its row, whose time stands for all of them."""


class JournalEntry(NamedTuple):
    """An event as it is read back."""

    sequence: int
    previous: int
    record: bytes


_new = tuple.__new__  # makes an Entry of its fields in half the time


def portions(records: list[bytes]) -> list[list[bytes]]:
    """Cut the records of events in a row into those that share one row."""
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
    """Return the records of a row as one: a single one as it is, else their lengths (32 bits each) and then all."""
    if len(records) == 1:
        return records[0]
    return struct.pack(f">{len(records)}I", *map(len, records)) + b"".join(records)


def size_of(data: bytes, count: int) -> int:
    """Return how many bytes the records of a row have."""
    return len(data) if count == 1 else len(data) - LENGTH_SIZE * count


def _taken_apart(data: bytes, count: int) -> list[bytes]:
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
    """Return the events of a row, in order. Raises ValueError where it does not have so many."""
    if count == 1:
        return [_new(JournalEntry, (sequence, previous, data))]
    entries = []
    for number, record in enumerate(_taken_apart(data, count), sequence - count + 1):
        entries.append(_new(JournalEntry, (number, previous, record)))
        previous = number
    return entries


def row_with(read: sqlite3.Connection, sequence: int) -> tuple[int, list[JournalEntry]]:
    """Return the topic's number and the events of the row that has the event of a sequence, if one has it."""
    query = "SELECT topic, sequence, previous, count, record FROM events WHERE sequence >= ? ORDER BY sequence LIMIT 1"
    found = read.execute(query, (sequence,)).fetchone()
    return (0, []) if found is None else (found[0], entries_of(*found[1:]))


class Deletions:
    """Events to be deleted: whole rows, and the first events of others."""

    def __init__(self) -> None:
        self.count = self.size = self.through = 0
        """How many, of how many bytes, and up to which sequence."""
        self.rows: list[tuple[int]] = []
        """The sequences of rows that go as a whole."""
        self.shortened: list[tuple[int, bytes, int, int]] = []
        """What is left of those that do not: previous, records, number of events, and the sequence."""

    def row(self, sequence: int, count: int, size: int) -> None:
        """Have a row be deleted: its sequence, its events, and how many bytes these have."""
        self.rows.append((sequence,))
        self.count += count
        self.size += size
        self.through = sequence

    def part(self, entries: list[JournalEntry], through: int) -> None:
        """Have the first events of a row be deleted, up to a sequence."""
        left = [entry for entry in entries if entry.sequence > through]
        going = entries[: len(entries) - len(left)]
        records = joined([entry.record for entry in left])
        self.shortened.append((left[0].previous, records, len(left), left[-1].sequence))
        self.count += len(going)
        self.size += sum([len(entry.record) for entry in going])
        self.through = through
