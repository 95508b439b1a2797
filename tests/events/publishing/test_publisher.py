"""The path of a fired event: numbered, grouped by topic, published; and the hand-off by other processes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest

from helpers.published import MARKER, ME, Out, run
from lightbus.core.partitions import partition_of
from lightbus.events.publishing import publisher as module
from lightbus.events.publishing.publisher import CROWD
from lightbus.exceptions import JournalError
from lightbus.message import EventMessage
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, Events, Marker, Record


def test_best_effort_is_not_stored() -> None:
    """Such an event is numbered and published, and no journal has it."""

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


def test_publishing_records_the_place_of_the_event() -> None:
    """The fired message has its publisher and its number; subscribers get its record."""

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


def test_event_of_another_loop_or_thread_that_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the worker does not store it in time, both are given the same error."""
    monkeypatch.setattr(module, "LATE_TIMEOUT", 0.05)

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("kept")
        message = EventMessage(api_name="auth", event_name="kept", kwargs={"what": "x", "key": "k"})
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            for fire in (out.publisher.publish, lambda *args: asyncio.run(out.publisher.publish_async(*args))):
                with pytest.raises(JournalError, match="did not store the event: its worker stops"):
                    await asyncio.to_thread(fire, message, event)

    run(test)


def test_a_marker_separates_earlier_events() -> None:
    """Events fired before the marker's subscription are published before it, and the marker names the last one."""

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


def test_a_marker_follows_fired_events() -> None:
    """An event that another thread fires while a marker is made comes after it."""

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
    """Only a subscription to a marker is answered; not an unsubscription, nor one to events."""

    async def test(out: Out) -> None:
        out.publisher.subscribed(topic, subscribed)
        assert out.frames == []

    run(test)


def test_many_events_of_best_effort_let_the_loop_run() -> None:
    """A task that keeps firing does not wait at first; once many are queued, the loop runs before the next."""

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
