"""Rows of a journal, and the events in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.adapters.sqlite.rows import MAX_EVENTS, MAX_SIZE, JournalEntry, entries_of, joined, portions, size_of

records = st.lists(st.binary(max_size=50), min_size=1, max_size=40)


@given(records=records, first=st.integers(1, 2**60), before=st.integers(0, 2**60))
def test_joined_records_are_split_again(records: list[bytes], first: int, before: int) -> None:
    """Each event has its sequence and its predecessor; the first event of the row has that of the row."""
    data = joined(records)
    entries = entries_of(first + len(records) - 1, before, len(records), data)
    assert entries == [
        JournalEntry(first + number, first + number - 1 if number else before, record)
        for number, record in enumerate(records)
    ]
    assert size_of(data, len(records)) == sum(map(len, records))


def test_single_record_is_stored_unchanged() -> None:
    """It costs no more than its own bytes: as in journals of version 1."""
    assert joined([b"abc"]) == b"abc"
    assert entries_of(7, 3, 1, b"abc") == [JournalEntry(7, 3, b"abc")]


@given(records=records, count=st.integers(-1, MAX_EVENTS + 1), cut=st.integers(0, 20))
def test_inconsistent_row_is_an_error(records: list[bytes], count: int, cut: int) -> None:
    """Any bytes give the expected number of events and bytes, or ValueError."""
    data = joined(records)[cut:]
    try:
        entries = entries_of(9, 0, count, data)
    except ValueError as error:
        assert str(count) in str(error)
    else:
        assert len(entries) == count
        assert sum(len(entry.record) for entry in entries) == size_of(data, count)


def test_impossible_count_takes_no_memory() -> None:
    """A damaged count does not make us allocate memory."""
    with pytest.raises(ValueError, match="does not have 1000000000 events"):
        entries_of(9, 0, 10**9, b"x" * 100)


@given(sizes=st.lists(st.sampled_from([0, 100, MAX_SIZE // 3, MAX_SIZE, MAX_SIZE + 1]), min_size=1, max_size=600))
def test_many_events_are_split_into_rows(sizes: list[int]) -> None:
    """No row has too many events, or too many bytes unless it is one large event; all events are there, in order."""
    records = [bytes(size) for size in sizes]
    cut = portions(records)
    assert [record for row in cut for record in row] == records
    assert all(row and len(row) <= MAX_EVENTS for row in cut)
    assert all(len(row) == 1 or sum(map(len, row)) <= MAX_SIZE for row in cut)
