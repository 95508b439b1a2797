"""Publishing to a stream: repeats, and the meaning of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lightbus.adapters.nats.connection import NatsConnection
from lightbus.adapters.nats.places import StreamPlaces
from lightbus.adapters.nats.publishing import WRONG_LAST_ID, Outcome, OutgoingMessage, StreamRefusal
from lightbus.adapters.nats.settings import NatsSettings
from lightbus.adapters.nats.stream_publisher import TOO_LARGE, StreamPublisher
from lightbus.exceptions import EventBackendError, EventBackendUnreachable
from lightbus.ports.events import EventTopic, OutgoingEvent

errors = pytest.importorskip("nats.js.errors")


class Channel:
    """Gives a list of outcomes for each send; after those, sequences."""

    def __init__(self) -> None:
        self.client = SimpleNamespace(max_payload=1000)
        self.sent: list[list[str]] = []
        self.answers: list[list[Outcome]] = []
        self.kept: list[str] = []

    async def publish(self, messages: Sequence[OutgoingMessage], stream: str, timeout: float) -> list[Outcome]:
        """Record the message."""
        self.sent.append([message.id for message in messages])
        if self.answers:
            return self.answers.pop(0)
        self.kept += [message.id for message in messages]
        return [len(self.kept) - len(messages) + number for number in range(1, len(messages) + 1)]


def refusal(code: int) -> StreamRefusal:
    """Return a server's answer that refuses a message."""
    return StreamRefusal(errors.APIError(code=400, err_code=code, description="no"))


def event(id: str, size: int = 1) -> OutgoingEvent:
    """Return an event."""
    return OutgoingEvent(api="shop", topic=EventTopic("sold", 1), id=id, record=b"x" * size, published_at=1.0)


def publish(channel: Channel, *events: OutgoingEvent, timeout: float = 0.05) -> list[int | EventBackendError]:
    """Publish events."""
    connection = NatsConnection(NatsSettings(timeout=timeout))

    async def publishing() -> Any:
        return channel

    connection.publishing = publishing  # type: ignore[method-assign]
    publisher = StreamPublisher(cast(NatsConnection, connection), StreamPlaces("bus", "shop"), "shop")
    return asyncio.run(publisher.publish(events, "all"))


def test_lost_event_is_sent_again_with_the_following() -> None:
    """From the first missing one on."""
    channel = Channel()
    channel.answers = [
        [1, StreamRefusal(None), refusal(WRONG_LAST_ID)],
        [StreamRefusal(None), refusal(WRONG_LAST_ID)],
        [2, 3],
    ]
    assert publish(channel, event("a"), event("b"), event("c"), timeout=60.0) == [1, 2, 3]
    assert channel.sent == [["a", "b", "c"], ["b", "c"], ["b", "c"]]


def test_event_that_never_arrives_is_given_up() -> None:
    """After a while, with all later ones; earlier ones are reported as stored."""
    channel = Channel()
    channel.answers = [[1, StreamRefusal(None), StreamRefusal(None)], *[[StreamRefusal(None)] * 2] * 1000]
    kept, *others = publish(channel, event("a"), event("b"), event("c"))
    assert kept == 1
    assert [type(each) for each in others] == [EventBackendUnreachable] * 2


def test_too_large_event_is_refused_alone() -> None:
    """By the servers' limit, and by the stream's."""
    channel = Channel()
    first, large, last = publish(channel, event("a"), event("b", 900), event("c"))
    assert (first, last) == (1, 2)
    assert "takes 900 bytes, and the JetStream takes messages of 1000 bytes" in str(large)
    channel.answers = [[refusal(TOO_LARGE), refusal(WRONG_LAST_ID)]]
    large, other = publish(channel, event("d"), event("e"))
    assert "max_msg_size" in str(large)
    assert other == 3


@pytest.mark.parametrize(("code", "remedy"), [(10077, "max_bytes"), (10047, "more room"), (1, "servers' log")])
def test_error_for_all_events_is_raised_once(code: int, remedy: str) -> None:
    """With the remedy; no further event is tried."""
    channel = Channel()
    channel.answers = [[refusal(code), refusal(WRONG_LAST_ID)]]
    outcomes = publish(channel, event("a"), event("b"))
    assert [type(each) for each in outcomes] == [EventBackendError] * 2
    assert remedy in str(outcomes[1])
    assert len(channel.sent) == 1
