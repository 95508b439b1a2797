"""The streams of one journal, merged: events come in the order of their sequences, despite losses and delays."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.ordering import ATTEMPTS, Order, Watermark
from lightbus.core.streams import MAX_FAILURES, UNCONFIRMED, Stream

PARTITIONS = 4


class Publisher:
    """Fired events, and how they are published: those of a batch and a partition are one message."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int, int]] = []
        """Sequence, that of the one before in the partition, partition."""
        self._complete = 0

    def heads(self) -> dict[int, int]:
        return {partition: sequence for sequence, _, partition in self.events}

    def batch(self, partitions: list[int]) -> list[tuple[int, list[Any], int, int]]:
        """Fire an event to each of these; return the messages: partition, records, predecessors and watermarks."""
        messages: dict[int, list[Any]] = {}
        for partition in partitions:
            sequence = len(self.events) * 2 + 1  # sequences have gaps
            messages.setdefault(partition, []).append([sequence, self.heads().get(partition, 0), b"x"])
            self.events.append((sequence, messages[partition][-1][1], partition))
        ordered = sorted(messages.items(), key=lambda message: message[1][0][0])
        nexts = [*(records[0][0] for _, records in ordered[1:]), *(self.events[-1][0] + 1 for _ in ordered[:1])]
        made = []
        for (partition, records), following in zip(ordered, nexts, strict=True):
            made.append((partition, records, self._complete, following - 1))
            self._complete = following - 1
        return made

    def page(self, partition: int, after: int) -> list[Any]:
        return [[s, p, b"x"] for s, p, which in self.events if which == partition and s > after]


class Consumer:
    """Follows all partitions, and handles one event after another."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.handled: list[int] = []
        self.order, self.watermark = Order(), Watermark()
        self.streams: dict[int, Stream] = {}
        self.answer()

    def stream(self, partition: int) -> Stream:
        if partition not in self.streams:
            self.streams[partition] = Stream(partition, cursor=0, order=self.order, watermark=self.watermark)
        return self.streams[partition]

    def message(self, partition: int, records: list[Any], follows: int, complete: int) -> None:
        self.watermark.published(follows, complete)
        stream = self.stream(partition)
        stream.live(records)
        self.order.note(stream)

    def answer(self) -> None:
        """Learn the heads of all partitions."""
        heads = self.publisher.heads()
        for partition, head in heads.items():
            self.stream(partition).note_head(head)
            self.order.note(self.stream(partition))
        self.watermark.answered(max(heads.values(), default=0))

    def fetch(self) -> None:
        """Get the missing events."""
        for stream in self.streams.values():
            if (after := stream.wanted()) is not None:
                records = self.publisher.page(stream.key, after)[:3]
                through = records[-1][0] if records else stream.head
                stream.page(records, through)
                if through < self.publisher.heads()[stream.key]:
                    stream.note_head(self.publisher.heads()[stream.key])
            self.order.note(stream)

    def handle(self, most: int = 1000) -> None:
        while most > 0 and (turn := self.order.next()) is not None:
            stream, before = turn
            while most > 0 and (entry := stream.take(before)) is not None:
                self.handled.append(entry.sequence)
                stream.done(entry)
                most -= 1
            if (told := stream.next_ack()) is not None:
                stream.ack_confirmed(told)
            self.order.note(stream)


STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, PARTITIONS - 1), max_size=12),  # the partitions of the events in one batch
        st.lists(st.booleans(), min_size=PARTITIONS, max_size=PARTITIONS),  # the partitions whose messages arrive
        st.sampled_from(["", "answer", "fetch", "answer fetch"]),
        st.integers(0, 10),  # the number of events handled after it
    ),
    max_size=20,
)


@given(st.integers(0, 8), STEPS)
def test_first_deliveries_are_in_order_despite_losses(before: int, steps: list[Any]) -> None:
    """Each event once, in the order of sequences: live, fetched, and around lost messages."""
    publisher = Publisher()
    publisher.batch([number % PARTITIONS for number in range(before)])
    consumer = Consumer(publisher)
    for fired, arrives, does, handled in steps:
        for message, is_there in zip(publisher.batch(fired), arrives, strict=False):
            if is_there:
                consumer.message(*message)
        if "answer" in does:
            consumer.answer()
        if "fetch" in does:
            consumer.fetch()
        consumer.handle(handled)
        assert consumer.handled == [sequence for sequence, _, _ in publisher.events][: len(consumer.handled)]
    for _ in range(len(publisher.events) + 1):
        consumer.answer()
        consumer.fetch()
        consumer.handle()
    assert consumer.handled == [sequence for sequence, _, _ in publisher.events]


@given(st.lists(st.lists(st.integers(0, PARTITIONS - 1), max_size=12), max_size=10))
def test_nothing_is_requested_without_losses(batches: list[list[int]]) -> None:
    """If every message arrives, all are handled at once, and nothing is missing."""
    publisher = Publisher()
    consumer = Consumer(publisher)
    for fired in batches:
        for message in publisher.batch(fired):
            consumer.message(*message)
            assert not consumer.watermark.lacks
        consumer.handle()
        assert len(consumer.handled) == len(publisher.events)


def streams(*firsts: int) -> tuple[Order, list[Stream]]:
    """Return an order of streams that have one event each, with these sequences."""
    order, watermark, made = Order(), Watermark(100), []
    for number, first in enumerate(firsts):
        stream = Stream(number, cursor=0, order=order, watermark=watermark)
        if first:
            stream.live([[first, 0, b"x"]])
        order.note(stream)
        made.append(stream)
    return order, made


def test_stream_keeps_its_turn_up_to_the_next_stream() -> None:
    """So several events in a row are delivered without choosing again."""
    order, (first, second) = streams(3, 5)
    assert order.next() == (first, 5)
    assert order.next() == (second, 101)
    assert order.next() is None


def test_stream_with_a_gap_is_waited_for() -> None:
    """Until the event arrives or requests have failed too often; streams that can only have later events continue."""
    order, (first, second) = streams(3, 0)
    second.note_head(2)
    order.note(second)
    assert order.next() is None
    for _ in range(MAX_FAILURES):
        second.request_failed()
    order.note(second)
    assert order.next() == (first, 101)

    order, (first, second) = streams(3, 2)
    assert order.next() == (second, 3)
    entry = second.take()
    assert entry is not None
    second.done(entry)
    second.note_head(9)
    order.note(second)
    assert order.next() is None  # the missing event may be the one after 2
    order.forget(second)
    assert order.next() == (first, 101)


def test_stream_without_the_announced_events_is_not_waited_for() -> None:
    """Empty answers count like missing ones: later events are delivered in the end."""
    order, (first, second) = streams(3, 0)
    second.note_head(2)
    for _ in range(MAX_FAILURES):
        order.note(second)
        assert order.next() is None
        assert second.wanted() == 0
        assert second.page([], 0) == 0
    order.note(second)
    assert order.next() == (first, 101)

    assert second.wanted() == 0, "it is asked for all the same"
    assert second.page([[2, 0, b"x"]], 2) == 1
    order.note(second)
    assert order.next() == (second, 101)


def test_retried_event_delays_no_other_stream() -> None:
    """A retry may come late; only its own stream waits for it."""
    order, (first, second) = streams(1, 2)
    assert order.next() == (first, 2)
    assert first.take() is not None
    first.live([[4, 1, b"x"]])
    order.note(first)  # its event is still in progress
    assert order.next() == (second, 101)


def test_unconfirmed_stream_is_waited_for() -> None:
    """No stream overtakes one that must wait until its acknowledgements are on disk."""
    order, (first, _) = streams(1, 1000)
    for sequence in range(1, UNCONFIRMED + 1):
        if sequence > 1:
            first.live([[sequence, sequence - 1, b"x"]])
        entry = first.take()
        assert entry is not None
        first.done(entry)
    first.live([[UNCONFIRMED + 1, UNCONFIRMED, b"x"]])
    assert first.watermark is not None
    first.watermark.upto = 5000
    order.note(first)
    assert order.next() is None
    first.confirmed = UNCONFIRMED
    assert order.next() == (first, 1000)


def test_useless_answers_end_the_waiting() -> None:
    """After some useless answers the received events are delivered."""
    watermark = Watermark(5)
    assert not watermark.published(9, 12)
    watermark.answered(5)
    for _ in range(ATTEMPTS):
        assert (watermark.lacks, watermark.upto) == (True, 5)
        watermark.failed()
    assert (watermark.lacks, watermark.upto) == (False, 12)


def test_messages_after_a_late_answer_count() -> None:
    """They follow the answer, and count at once."""
    watermark = Watermark(5)
    watermark.published(7, 9)
    watermark.published(9, 11)
    watermark.published(15, 16)
    watermark.answered(8)
    assert (watermark.upto, watermark.lacks) == (11, True)
    watermark.answered(16)
    assert (watermark.upto, watermark.lacks) == (16, False)
