"""Tests of lightbus.gateway.cursor: how far a stream has come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus import InvalidArguments
from lightbus.gateway.cursor import MAX_TEXT, Cursor

ONE, TWO = "0123456789abcdef", "fedcba9876543210"

PLACES = st.dictionaries(st.text("0123456789abcdef", min_size=16, max_size=16), st.integers(0, 2**62), max_size=20)


@given(st.floats(0, 4e9), PLACES)
def test_cursor_round_trip(since: float, places: dict[str, int]) -> None:
    """A text decodes to the place that it was encoded from."""
    read = Cursor.read(str(Cursor(since=since, places=places)))
    assert read.places == places
    assert read.since == pytest.approx(since, abs=0.001)


def test_cursor_of_many_journals_fits_into_a_header() -> None:
    """Places are packed, so that a request's head has room for those of a thousand processes."""
    places = {f"{number:016x}": number * 997 for number in range(1, 1001)}
    text = str(Cursor(since=1764400000.0, places=places))
    assert len(text) <= MAX_TEXT
    assert Cursor.read(text).places == places
    for cut in range(1, 14):
        with contextlib.suppress(InvalidArguments):
            assert Cursor.read(text[:-cut]).places.items() <= places.items() | {(f"{1000:016x}", 0)}


@pytest.mark.parametrize(
    "text",
    ["", "5", "@", "x@", "nan@", "inf@", f"1@{ONE}", f"1@{ONE}-", f"1@{ONE}-x", f"1@{ONE}-1,", "1@short-1", "1@,",
     f"1@{ONE}-" + "9" * 20, "1@" + f"{ONE}-1," * 1000, "0@\x00",
     "1@~A", "1@~AAAA", "1@~ä", "1@~ AAAAAAAAAAAA", "1@~AAAAAAAAAAAJ", "1@~AAAAAAAAAAAF", "1@~~"],
)  # fmt: skip
def test_invalid_cursor_is_refused(text: str) -> None:
    """The error says where to get a valid one."""
    with pytest.raises(InvalidArguments, match="Last-Event-ID"):
        Cursor.read(text)


@given(st.text(max_size=60) | st.text("ABCDwxyz0189-_", max_size=80).map("1@~".__add__))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    """Means a place, or is refused."""
    with contextlib.suppress(InvalidArguments):
        assert len(str(Cursor.read(text))) <= MAX_TEXT


@pytest.mark.parametrize(
    ("journal", "sequence", "at", "is_old", "admitted"),
    [
        (ONE, 5, 0.0, False, False),
        (ONE, 6, 0.0, False, True),
        (ONE, 6, 0.0, True, True),
        (TWO, 1, 50.0, True, False),
        (TWO, 1, 100.0, True, True),
        (TWO, 1, 0.0, False, True),
    ],
)
def test_cursor_admits_new_events(journal: str, sequence: int, at: float, is_old: bool, admitted: bool) -> None:
    """Of a known journal those after its place; of another one new events, or those not older than `since`."""
    cursor = Cursor(since=100.0, places={ONE: 5})
    assert cursor.admits(journal, sequence, at, is_old=is_old) is admitted
