"""The way of an event out: numbered, coalesced by topic, published; and the hand-off for those who cannot publish."""

from __future__ import annotations

import asyncio

import pytest

from helpers.published import MARKER, ME, Out, run
from lightbus.core.partitions import partition_of
from lightbus.events.publishing.publisher import CROWD
from lightbus.message import EventMessage
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, Events, Marker, Record


def test_best_effort_is_not_stored() -> None:
    """Of best effort an event is numbered and published, and no journal has it."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("loose")
        for n in range(3):
            message = EventMessage(api_name="auth", event_name="loose", kwargs={"what": n})
            assert out.publisher.publish(message, event) is None
            assert (message.native_id, message.publisher) == ("", ME)
        out.publisher.flush()
        assert {message.journal for _, message in out.frames if isinstance(message, Events)} == {""}
        assert out.journals.journal.size == (0, 0)
        assert out.publisher.put_by == []

    run(test)


def test_publishing_an_event_notes_where_it_is() -> None:
    """The fired message then says who holds it, and under which number; its record is what subscribers get."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("user_registered")
        message = EventMessage(
            api_name="auth", event_name="user_registered", kwargs={"username": "sally"}, id="x-1", published_at=1.5
        )
        out.publisher.publish(message, event)
        assert (message.native_id, message.publisher) == (out.native_id(1), ME)
        out.publisher.flush()
        [(topic, [[_, _, record]])] = out.records.items()
        assert topic == envelope.event_topic("auth", "user_registered", partition_of("sally", PARTITIONS))
        assert envelope.decode_record(record) == Record("x-1", 1, 1.5, {"username": "sally"})

    run(test)


def test_a_marker_tells_from_where_on_events_arrive() -> None:
    """What was fired before the marker's subscription goes out before it, and the marker names the last of it."""

    async def test(out: Out) -> None:
        out.fire(2)
        out.publisher.subscribed(MARKER, True)
        assert [type(message) for _, message in out.frames] == [Events, Marker]
        assert out.frames[-1] == (MARKER, Marker(out.journals.journal.id, out.first + 2))
        out.fire(1)
        await asyncio.sleep(0)
        assert [type(message) for _, message in out.frames] == [Events, Marker, Events]
        assert out.publisher.counts["markers"] == 1

    run(test)


def test_a_marker_comes_behind_what_was_fired() -> None:
    """An event that another thread fires while a marker is made comes behind it."""

    async def test(out: Out) -> None:
        send = out.publisher.broadcast._send
        late = iter([1])

        def send_and_fire(frame: bytes) -> None:
            send(frame)
            if next(late, None):
                out.fire(1)

        out.publisher.broadcast._send = send_and_fire
        out.fire(1)
        out.publisher.subscribed(MARKER, True)
        assert [type(message) for _, message in out.frames] == [Events, Marker]
        await asyncio.sleep(0)
        assert [entry[0] for entries in out.records.values() for entry in entries] == [1, 2]

    run(test)


@pytest.mark.parametrize(("topic", "subscribed"), [(MARKER, False), (b"auth\0", True), (b"", True)])
def test_other_subscriptions_are_not_answered(topic: bytes, subscribed: bool) -> None:
    """Only a subscription to a marker is answered; taking one back, or subscribing to events, is not."""

    async def test(out: Out) -> None:
        out.publisher.subscribed(topic, subscribed)
        assert out.frames == []

    run(test)


def test_a_crowd_of_best_effort_lets_others_have_a_turn() -> None:
    """Who fires on and on waits for nothing at first; once so many are queued, the loop goes on before the next."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("loose")
        message = EventMessage(api_name="auth", event_name="loose", kwargs={"what": 1})
        assert [out.publisher.begin(message, event) for _ in range(CROWD)] == [None] * CROWD
        waits = out.publisher.begin(message, event)
        assert waits is not None
        assert (len(out.frames), out.publisher.waiting) == (0, CROWD + 1)
        await waits
        assert out.publisher.waiting == 0
        assert sum(map(len, (message.records for _, message in out.frames if isinstance(message, Events)))) == CROWD + 1
        for _ in range(CROWD + 1):
            await out.publisher.publish_async(message, event)
        assert out.publisher.waiting <= 1

    run(test)
