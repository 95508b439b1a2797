"""Events that other processes hand off are checked, stored once, and answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.published import ME, Out, run
from lightbus.core.partitions import partition_of
from lightbus.events.publishing.broadcast import FRAME_OVERHEAD
from lightbus.exceptions import LightbusTimeout
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, Accepted, Error


def test_a_handed_off_event_is_published() -> None:
    """The answer contains its number; the record is published, completed by the fields that its sender left out."""

    async def test(out: Out) -> None:
        answer = await out.hand_off("user_registered", kwargs={"username": "sally"})
        assert answer == Accepted(out.native_id(1), ME)
        out.publisher.flush()
        [(topic, [[_, _, record]])] = out.records.items()
        assert topic == envelope.event_topic("auth", "user_registered", partition_of("sally", PARTITIONS))
        assert envelope.decode_record(record).kwargs == {"username": "sally", "age": 0}
        assert out.publisher.counts["handed_off"] == 1

    run(test)


def test_the_key_in_a_hand_off_counts() -> None:
    """The key in the message decides on the partition, not the argument."""

    async def test(out: Out) -> None:
        await out.hand_off("user_registered", kwargs={"username": "sally"}, key="another")
        out.publisher.flush()
        assert list(out.records) == [
            envelope.event_topic("auth", "user_registered", partition_of("another", PARTITIONS))
        ]

    run(test)


@pytest.mark.parametrize(
    ("event", "fields", "code", "text"),
    [
        ("seen", {"api": "auht"}, "unknown_api", "Did you mean 'auth'?"),
        ("sene", {}, "event_not_found", "Did you mean 'seen'?"),
        ("seen", {"record": b"\xc1"}, "protocol_error", "cannot be decoded"),
        ("seen", {"kwargs": {"what": 1, "else": 2}}, "validation_error", "has no parameter 'else'"),
        ("seen", {"kwargs": {}}, "validation_error", "needs the argument 'what'"),
        ("user_registered", {"kwargs": {"username": "s", "age": "old"}}, "validation_error", "age is 'old'"),
        ("seen", {"kwargs": {"what": "x" * 8000}}, "payload_too_large", "arguments of auth.seen take 8"),
    ],
)
def test_invalid_hand_offs_are_refused(event: str, fields: dict[str, Any], code: str, text: str) -> None:
    """The sender gets the reason; nothing is published, and no other peer is asked."""

    async def test(out: Out) -> None:
        error = await out.hand_off(event, **fields)
        assert isinstance(error, Error)
        assert (error.code, error.started, error.details) == (code, False, {})
        assert text in error.message
        assert (out.journals.journal.size, out.publisher.counts["refused"]) == ((0, 0), 1)

    run(test, max_message_size=8000 + FRAME_OVERHEAD)


def test_unvalidated_hand_offs_are_accepted() -> None:
    """If an API has `validate: false`, that applies to events of other processes, too."""

    async def test(out: Out) -> None:
        out.publisher.hand_offs._validates = lambda api: api != "auth"
        answer = await out.hand_off("seen", kwargs={"else": 2})
        assert isinstance(answer, Accepted)

    run(test)


def test_an_event_for_another_instance_is_refused() -> None:
    """A restarted worker does not publish events for its predecessor; another peer may be asked."""

    async def test(out: Out) -> None:
        error = await out.hand_off(target="f" * 16)
        assert isinstance(error, Error)
        assert (error.code, error.started, error.details) == ("peer_refused", False, {"elsewhere": True})

    run(test)


def test_a_repeated_hand_off_is_stored_once() -> None:
    """A second one with the same id, at any time, is answered with the place of the first, and not published."""

    async def test(out: Out) -> None:
        first, again = await asyncio.gather(out.hand_off(), out.hand_off())
        later = await out.hand_off()
        other = await out.hand_off(id="id-2")
        assert [first, again, later, other] == [Accepted(out.native_id(n), ME) for n in (1, 1, 1, 2)]
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 2)
        assert out.publisher.counts["repeated"] == 2

    run(test)


def test_a_hand_off_that_waits_for_the_groups() -> None:
    """With `wait_for` "ack" the answer is sent when every group has handled the event."""

    async def test(out: Out) -> None:
        waiting = asyncio.ensure_future(out.hand_off(wait_for="ack"))
        await wait_until_async(lambda: out.awaited)
        assert not waiting.done()
        [(topic, sequence, seconds, callback)] = out.awaited
        assert (topic[:2], sequence, seconds) == (("auth", "seen"), out.first + 1, 5.0)
        callback(None)
        assert await waiting == Accepted(out.native_id(1), ME)
        waiting = asyncio.ensure_future(out.hand_off(id="id-2", wait_for="ack"))
        await wait_until_async(lambda: len(out.awaited) == 2)
        out.awaited[1][3](LightbusTimeout("too many wait"))
        assert await waiting == Error("timeout", "too many wait", True, {})

    run(test)


def test_best_effort_is_answered_at_once() -> None:
    """An event that no journal stores is accepted when it is queued."""

    async def test(out: Out) -> None:
        assert await out.hand_off("loose") == Accepted("", ME)

    run(test)
