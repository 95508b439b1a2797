"""The queued events of a listener with batches: which of them make a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.listeners import Source, listener
from lightbus.core.ordering import Order, Watermark
from lightbus.core.streams import UNCONFIRMED, Entry, Stream
from lightbus.events.listening.batch_queue import BatchQueue, Leftover
from lightbus.events.listening.listener_queue import Retry


class Waiting:
    """A queue, with streams that are merged by their sequences, or are not."""

    def __init__(self, *, is_merged: bool, batch: int = 100) -> None:
        self.queue = BatchQueue(replace(listener(print), batch=batch))
        self.source = Source()
        self._order = Order() if is_merged else None
        self.streams = [self._stream(partition) for partition in range(3)]

    def _stream(self, partition: int) -> Stream:
        watermark = None if self._order is None else Watermark(float("inf"))
        return Stream(("j", "seen", partition), self.source, cursor=0, order=self._order, watermark=watermark)

    def put(self, partition: int, *sequences: int) -> None:
        """Add events of a partition."""
        stream = self.streams[partition]
        for sequence in sequences:
            assert stream.live([[sequence, stream.position, b"abc"]]) == 1
            self.queue.ready(stream, 1, 3)

    def take(self) -> list[list[int]]:
        """Return the sequences of a batch, chunk by chunk."""
        return [[entry.sequence for entry in entries] for _, entries in self.queue.take_batch()]


def entries_of(sequences: list[int]) -> list[Entry]:
    """Return the events of a partition."""
    return [Entry(sequence, sequence - 1, b"abc") for sequence in sequences]


@pytest.fixture(params=[True, False])
def waiting(request: pytest.FixtureRequest) -> Waiting:
    """Return an empty queue."""
    return Waiting(is_merged=request.param)


def test_in_the_order_of_the_journal() -> None:
    """Merged partitions make one batch, in the order of their sequences."""
    waiting = Waiting(is_merged=True)
    waiting.put(0, 1, 2, 5, 6)
    waiting.put(1, 3, 4, 7)
    assert waiting.take() == [[1, 2], [3, 4], [5, 6], [7]]
    assert [stream.in_progress for stream in waiting.streams] == [4, 3, 0]
    assert (waiting.queue.backlog, waiting.queue.backlog_bytes) == (0, 0)


def test_partitions_in_parallel() -> None:
    """Partitions that are not merged are taken one after another; events in progress are in no second batch."""
    waiting = Waiting(is_merged=False)
    waiting.put(0, 1, 2, 5)
    waiting.put(1, 3, 4)
    assert waiting.take() == [[1, 2, 5], [3, 4]]
    waiting.put(0, 6)
    waiting.put(2, 7)
    assert waiting.take() == [[7]]


def test_no_more_than_the_batch_size(waiting: Waiting) -> None:
    """The rest waits for the next batch."""
    waiting.put(0, *range(1, 151))
    [first] = waiting.take()
    assert (first, waiting.queue.backlog) == ([*range(1, 101)], 50)
    stream = waiting.streams[0]
    waiting.queue.handled(stream, entries_of(first))
    waiting.queue.end_of_batch(stream)
    assert waiting.take() == [[*range(101, 151)]]
    assert waiting.source.acked == [100]


def test_no_more_than_the_unconfirmed_limit() -> None:
    """One partition has no more events in progress than are delivered one by one if this process ends."""
    waiting = Waiting(is_merged=False, batch=1000)
    waiting.put(0, *range(1, UNCONFIRMED + 11))
    assert waiting.queue.is_filled.is_set()
    [taken] = waiting.take()
    assert len(taken) == UNCONFIRMED


def test_possibly_delivered_events_are_not_in_a_batch(waiting: Waiting) -> None:
    """Nor is any event after them in the order."""
    waiting.streams[1].possibly_delivered = 3
    waiting.put(0, 1, 2)
    waiting.put(1, 3, 4)
    assert waiting.take() == [[1, 2]]
    assert waiting.take() == []
    assert waiting.queue.is_delivered_alone(waiting.streams[1])


def test_a_returned_turn_keeps_its_place() -> None:
    """Two journals, of one of which the next event is delivered alone, do not block each other for ever."""
    queue, source = BatchQueue(replace(listener(print), batch=100)), Source()
    together, alone = (
        Stream((journal, "seen", 0), source, cursor=0, order=Order(), watermark=Watermark(float("inf")))
        for journal in "jk"
    )
    alone.possibly_delivered = 1
    for stream in (together, alone):
        stream.live([[1, 0, b"abc"]])
        queue.ready(stream, 1, 3)
    for first in (together, alone):
        whose = queue.next()
        assert whose is not None
        assert whose[0] is first
        queue.return_turn(whose)
        if first is together:
            assert [chunk.stream for chunk in queue.take_batch()] == [together]


def test_events_behind_a_retried_one_are_kept(waiting: Waiting) -> None:
    """Until the retry is done; they are dropped with their stream."""
    waiting.put(0, 1, 2, 3)
    [[stream, entries]] = waiting.queue.take_batch()
    queue = waiting.queue
    queue.keep_leftovers(stream, [Leftover(entries[1], True)])
    assert queue.next_leftover(stream) is None  # nothing is tried again
    queue._retries[stream] = Retry(entries[0], 1, 1.0)
    queue.keep_leftovers(stream, [Leftover(entries[1], True), Leftover(entries[2], False)])
    assert (queue.counts["failed"], queue.failed_by) == (2, {stream.key[1]: 2})
    assert queue.next_leftover(stream) == (entries[1], True)
    queue.forget(stream)
    assert queue.next_leftover(stream) is None
    assert (stream.in_progress, waiting.source.retried) == (0, 1)
