"""Publishing stored events: in few messages, none too large, with repeated heads."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from helpers.published import Out, run
from lightbus.adapters.sqlite.journal import Journal
from lightbus.core.partitions import partition_of
from lightbus.events.publishing.broadcast import MAX_BYTES, MAX_RECORDS
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, Events, Head


def test_events_of_one_tick_share_a_message() -> None:
    """Events fired before the loop runs again are in one frame, numbered, each with the previous one."""

    async def test(out: Out) -> None:
        assert out.fire(3) == [1, 2, 3]
        assert out.publisher.waiting == 3
        assert out.frames == []
        await asyncio.sleep(0)
        [(topic, message)] = out.frames
        assert topic == envelope.event_topic("auth", "kept", partition_of("k", PARTITIONS))
        assert isinstance(message, Events)
        assert [entry[:2] for entry in out.records[topic]] == [[1, 0], [2, 1], [3, 2]]
        assert (out.publisher.waiting, out.publisher.counts["published"]) == (0, 3)
        assert out.fire(1) == [4]
        await asyncio.sleep(0)
        assert out.records[topic][-1][:2] == [4, 3]

    run(test)


def test_an_idle_topic_repeats_its_head() -> None:
    """After half a second, then at growing intervals, a topic publishes the number of its newest event."""

    async def test(out: Out) -> None:
        out.fire(2)
        out.publisher.flush()
        topic = out.frames[0][0]
        now = time.monotonic()
        for later, expected in ((0, 0), (1, 1), (1.1, 1), (3, 2), (100, 3)):
            out.publisher.tick(now + later)
            heads = [(to, message) for to, message in out.frames if isinstance(message, Head)]
            assert len(heads) == expected
        assert set(heads) == {(topic, Head(out.journals.journal.id, out.first + 2))}

    run(test)


def test_heads_of_another_journal_are_not_repeated() -> None:
    """Its numbers mean other events: subscribers would ask this one for events that it never had."""

    async def test(out: Out) -> None:
        out.fire(2)
        out.publisher.flush()
        out.journals.journal.close()
        out.journals.journal = Journal(out.journals.journal.path.with_stem("00000000000000bb"))
        first = out.journals.journal.head + 1
        out.publisher.batcher.append_all(("auth", "unkeyed"), [(b"", None, 0.0, "")])
        out.publisher.flush()
        out.publisher.tick(time.monotonic() + 1)
        assert [message for _, message in out.frames if isinstance(message, Head)] == [Head("00000000000000bb", first)]

    run(test)


def test_an_idle_topic_of_best_effort_repeats_its_head() -> None:
    """A subscriber can count its missed events, though they cannot be fetched."""

    async def test(out: Out) -> None:
        for _ in range(3):
            out.publisher.batcher.append_live(("auth", "loose"), b"", "k")
        out.publisher.flush()
        topic = out.frames[0][0]
        for later in (0, 1, 1.1):
            out.publisher.tick(time.monotonic() + later)
        assert [each for each in out.frames if isinstance(each[1], Head)] == [(topic, Head("", 3))]

    run(test)


def test_a_message_has_a_limited_number_of_events() -> None:
    """More than MAX_RECORDS events of a topic are several messages, in order."""

    async def test(out: Out) -> None:
        out.fire(2 * MAX_RECORDS + 1)
        out.publisher.flush()
        lengths = [len(message.records) for _, message in out.frames if isinstance(message, Events)]
        assert lengths == [MAX_RECORDS, MAX_RECORDS, 1]
        [entries] = out.records.values()
        assert [entry[0] for entry in entries] == list(range(1, 2 * MAX_RECORDS + 2))

    run(test)


def test_a_message_has_a_limited_number_of_bytes() -> None:
    """Events together stay below MAX_BYTES; for a larger event, only its number is published."""

    async def test(out: Out) -> None:
        out.fire(3, size=MAX_BYTES // 2 - 1000)
        out.fire(1, size=2 * MAX_BYTES)
        out.fire(1)
        out.publisher.flush()
        assert [len(message.records) for _, message in out.frames if isinstance(message, Events)] == [2, 1, 1]
        assert [type(message) for _, message in out.frames] == [Events, Events, Head, Events]

    run(test)


@given(st.lists(st.integers(0, 900), min_size=1, max_size=40), st.integers(2048, 4096))
def test_no_message_is_over_the_limit(sizes: list[int], limit: int) -> None:
    """No message is larger than a subscriber accepts: it would drop the connection."""

    async def test(out: Out) -> None:
        for size in sizes:
            out.fire(1, size=size)
        out.publisher.flush()
        assert max(out.sizes) <= limit
        [entries] = out.records.values()
        assert [len(envelope.decode_record(entry[2]).kwargs["what"]) for entry in entries] == sizes

    run(test, max_message_size=limit)
