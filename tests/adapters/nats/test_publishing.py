"""Publishing to a stream: together, in order, and nothing after a lost message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.nats_servers import NatsServer
from lightbus.adapters.nats.publishing import WRONG_LAST_ID, OutgoingMessage, PublishingChannel, StreamRefusal


class Client:
    """A connection to a server that stores messages like a JetStream, and loses some."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.loses: set[str] = set()
        """Ids of messages that do not arrive, once each."""
        self.forgets_to_say: set[str] = set()
        """Ids of messages that are kept, and not confirmed, once each."""
        self.refuses: dict[str, dict[str, Any]] = {}
        self._callback: Callable[[Any], Awaitable[None]]

    def new_inbox(self) -> str:
        return "_INBOX.1"

    async def subscribe(self, subject: str, cb: Callable[[Any], Awaitable[None]]) -> None:
        assert subject == "_INBOX.1.*"
        self._callback = cb

    async def publish(self, subject: str, data: bytes, *, reply: str, headers: dict[str, str]) -> None:
        id, before = headers["Nats-Msg-Id"], headers.get("Nats-Expected-Last-Msg-Id")
        assert headers["Nats-Expected-Stream"] == "stream"
        if id in self.loses:
            self.loses.remove(id)
            return
        answer = self._answer(id, before)
        if id in self.forgets_to_say:
            self.forgets_to_say.remove(id)
            return
        message = SimpleNamespace(subject=reply, data=json.dumps(answer).encode(), headers=None)
        asyncio.get_running_loop().create_task(cast(Any, self._callback(message)))

    def _answer(self, id: str, before: str | None) -> dict[str, Any]:
        if id in self.kept:
            return {"stream": "stream", "seq": self.kept.index(id) + 1, "duplicate": True}
        if id in self.refuses:
            return {"error": self.refuses[id]}
        if before is not None and self.kept[-1:] != [before]:
            return {"error": {"code": 400, "err_code": WRONG_LAST_ID, "description": "wrong last msg ID"}}
        self.kept.append(id)
        return {"stream": "stream", "seq": len(self.kept)}


def messages(*ids: str) -> list[OutgoingMessage]:
    return [OutgoingMessage("shop.sold", id, b"x", {}) for id in ids]


def run(test: Callable[[PublishingChannel, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        client = Client()
        channel = PublishingChannel(cast(Any, client))
        await channel.open()
        await test(channel, client)

    asyncio.run(main())


def codes(outcomes: list[Any]) -> list[int | None]:
    """Return the sequence of each message, the code of its refusal, or None."""
    return [
        outcome if isinstance(outcome, int) else outcome.error and outcome.error.err_code
        for outcome in outcomes
    ]  # fmt: skip


def test_messages_are_kept_in_order() -> None:
    async def test(channel: PublishingChannel, client: Client) -> None:
        assert await channel.publish(messages("a", "b", "c"), "stream", 0.5) == [1, 2, 3]
        assert await channel.publish(messages("d"), "stream", 0.5) == [4]

    run(test)


@pytest.mark.parametrize("lost", ["a", "b"])
def test_nothing_is_stored_after_a_lost_message(lost: str) -> None:
    """Sent again, all are stored, in order and once."""

    async def test(channel: PublishingChannel, client: Client) -> None:
        await channel.publish(messages("0"), "stream", 0.5)
        client.loses = {lost}
        outcomes = await channel.publish(messages("a", "b", "c"), "stream", 0.01)
        assert [each for each in outcomes if isinstance(each, int)] == ([] if lost == "a" else [2])
        assert StreamRefusal(None) in outcomes
        assert await channel.publish(messages("a", "b", "c"), "stream", 0.5) == [2, 3, 4]
        assert client.kept == ["0", "a", "b", "c"]

    run(test)


def test_unconfirmed_message_is_stored_once() -> None:
    async def test(channel: PublishingChannel, client: Client) -> None:
        client.forgets_to_say = {"b"}
        assert codes(list(await channel.publish(messages("a", "b", "c"), "stream", 0.01))) == [1, None, 3]
        assert await channel.publish(messages("b", "c"), "stream", 0.5) == [2, 3]
        assert client.kept == ["a", "b", "c"]

    run(test)


def test_publishing_in_between_is_noticed() -> None:
    """Then the following messages are not stored, and are sent again to keep our order."""

    async def test(channel: PublishingChannel, client: Client) -> None:
        sent = client.publish

        async def publish(subject: str, data: bytes, *, reply: str, headers: dict[str, str]) -> None:
            if headers["Nats-Msg-Id"] == "b":
                client.kept.append("of another")
            await sent(subject, data, reply=reply, headers=headers)

        client.publish = publish  # type: ignore[method-assign]
        outcomes = await channel.publish(messages("a", "b", "c"), "stream", 0.5)
        assert codes(list(outcomes)) == [1, WRONG_LAST_ID, WRONG_LAST_ID]

    run(test)


def test_refusals_are_returned() -> None:
    async def test(channel: PublishingChannel, client: Client) -> None:
        client.refuses = {"a": {"code": 400, "err_code": 10077, "description": "maximum bytes exceeded"}}
        [refusal] = await channel.publish(messages("a"), "stream", 0.5)
        assert isinstance(refusal, StreamRefusal)
        assert refusal.error is not None
        assert (refusal.error.err_code, refusal.error.description) == (10077, "maximum bytes exceeded")

    run(test)


def test_real_server_behaves_so() -> None:
    """It refuses messages out of order, recognises known ids, and reports a missing stream."""
    nats = pytest.importorskip("nats")
    with NatsServer() as server:

        async def main() -> None:
            client = await nats.connect(server.url)
            channel = PublishingChannel(client)
            await channel.open()
            assert await channel.publish(messages("a"), "stream", 2.0) == [StreamRefusal(None)]
            await client.jetstream().add_stream(name="stream", subjects=["shop.>"])
            assert await channel.publish(messages("a", "b"), "stream", 2.0) == [1, 2]
            assert await channel.publish(messages("b", "c", "d"), "stream", 2.0) == [2, 3, 4]
            await client.publish("shop.sold", b"of another", headers={"Nats-Msg-Id": "other"})
            assert codes(list(await channel.publish(messages("d", "e"), "stream", 2.0))) == [4, WRONG_LAST_ID]
            assert await channel.publish(messages("e", "f"), "stream", 2.0) == [6, 7]
            await client.close()

        asyncio.run(main())
