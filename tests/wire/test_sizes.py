"""The size of messages between peers with different limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightbus.wire import envelope
from lightbus.wire.envelope import Page, Record, Streams
from lightbus.wire.sizes import (
    LEAST,
    PAGE_OVERHEAD,
    RECORD_OVERHEAD,
    Receivers,
    fitting,
    fitting_partitions,
    most,
    placeholder,
    size_left_out,
)


def test_smallest_receiver_counts() -> None:
    """As long as it is connected; receivers with our own limit, or none given, change nothing."""
    receivers = Receivers(10_000)
    for presence, size in ((b"a", 0), (b"b", 10_000), (b"c", 90_000)):
        receivers.joined(presence, size)
    assert receivers.smallest == 10_000
    receivers.joined(b"d", 5000)
    receivers.joined(b"e", 3000)
    assert (receivers.smallest, receivers.most(3000), receivers.most(0)) == (3000, 3000, 10_000)
    receivers.left(b"e")
    receivers.left(b"e")
    assert receivers.smallest == 5000
    receivers.joined(b"d", 20_000)
    assert receivers.smallest == 10_000
    receivers.joined(b"f", 1)
    assert receivers.smallest == LEAST


def test_smaller_limit_counts() -> None:
    """Of two limits the smaller; none is below the least possible setting."""
    assert [most(5000, other) for other in (0, 1, 4000, 6000)] == [5000, LEAST, 4000, 5000]


@given(sizes=st.lists(st.integers(0, 5000), min_size=1), limit=st.integers(LEAST, 6000))
def test_page_fits_the_limit(sizes: list[int], limit: int) -> None:
    """Nothing is skipped, it has at least one entry, and a record left out is replaced by its size."""
    entries = [(2**61 + number, 2**61 + number - 1, b"r" * size) for number, size in enumerate(sizes)]
    rows, are_all = fitting(entries, limit)
    assert 0 < len(rows) <= len(entries)
    assert are_all == (len(rows) == len(entries))
    for (sequence, previous, record), row in zip(entries, rows, strict=False):
        fits = len(record) + RECORD_OVERHEAD + PAGE_OVERHEAD <= limit
        assert row == [sequence, previous, record if fits else len(record)]
    # As many rows as a page has: a record that is left out only adds a number.
    if len(rows) * RECORD_OVERHEAD < limit - PAGE_OVERHEAD:
        assert len(envelope.encode(Page(rows, 2**62, True, 2**40), 2**63)) <= limit


def test_streams_fit_the_limit() -> None:
    """As many partitions as fit in rows and bytes."""
    journals = [f"{number:016x}" for number in range(5_000)]
    rows = [[journal, "seen", partition, 1, 2, 0] for journal in journals for partition in range(16)]
    partitions, streams = fitting_partitions(range(16), rows, 2**26)
    assert partitions == [*range(13)]
    told = Streams("auth", "g", 1, partitions, streams)
    assert envelope.decode(envelope.encode(told)) == (0, told)
    assert fitting_partitions(range(16), rows, LEAST)[0] == [0]


def test_placeholder_gives_the_size() -> None:
    """No record is taken for a placeholder."""
    assert size_left_out(placeholder(123_456)) == 123_456
    record = envelope.encode_record(Record("i", 1, 0.5, {}))
    assert size_left_out(record) is None
    assert size_left_out(b"x" * 5000) is None
    assert size_left_out(b"\xff") is None  # decodes to -1
