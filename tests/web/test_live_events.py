"""Live events, for viewers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.events.listening.raw_events import RawEvents
from lightbus.testing import MemoryBus
from lightbus.web.live_events import LiveEvents


class ChatApi(Api):
    posted = Event(["message", "self"])

    class Meta:
        name = "chat"


class Looker:
    """Records its events."""

    def __init__(self) -> None:
        self.events: list[EventMessage] = []

    def add(self, events: RawEvents) -> None:
        self.events += events.messages()


def test_events_arrive_while_there_are_viewers(hub: MemoryBus, connect: Any) -> None:
    """Events of every API arrive, with any argument names; without a viewer nothing listens."""
    bus = hub.create(service_name="chat")
    bus.client.register_api(ChatApi())

    async def main() -> None:
        await bus.client.start_worker()
        live, first, second = LiveEvents(connect, name="looks"), Looker(), Looker()
        told = first.events

        async def arrives() -> bool:
            # Best effort: what is fired before the listener is known to the publisher is not for it.
            await bus.chat.posted.fire_async(message="hello", self="me")
            return bool(told)

        async with live.viewing(first), live.viewing(second):
            assert live.is_listening
            while not await arrives():
                await asyncio.sleep(0.01)
            assert told[0].kwargs == {"message": "hello", "self": "me"}
            assert told[0].canonical_name == "chat.posted"
            assert [each.id for each in second.events[: len(told)]] == [each.id for each in told]
        assert not live.is_listening
        await bus.client.stop_worker()

    asyncio.run(main())


def test_only_wanted_apis_are_listened_to(shop: BusPath, connect: Any) -> None:
    """There is no listener for others."""
    looker = Looker()

    async def main() -> None:
        live = LiveEvents(connect, name="looks", wants=lambda api: api == "auth")
        async with live.viewing(looker):
            await wait_until_async(lambda: "auth" in live.apis)
            assert live.apis == {"auth"}

    asyncio.run(main())


def test_listening_that_cannot_start(connect: Any) -> None:
    """The first viewer gets the error, nothing is left behind, and the next one tries again."""
    bus = connect()

    async def fails() -> None:
        raise OSError("no room")

    async def main() -> None:
        bus.client.start_worker = fails  # type: ignore[method-assign]
        made = [bus, connect()]
        live = LiveEvents(lambda: made.pop(0), name="looks")
        with pytest.raises(OSError, match="no room"):
            async with live.viewing(Looker()):
                pass
        assert not live.is_listening
        async with live.viewing(Looker()):
            assert live.is_listening
        await live.close()

    asyncio.run(main())


def test_end_with_open_viewers(shop: BusPath, connect: Any) -> None:
    """The client that listened leaves the bus."""

    async def main() -> None:
        live = LiveEvents(connect, name="looks")
        async with live.viewing(Looker()):
            await live.close()
            assert not live.is_listening
        await wait_until_async(lambda: "lightbus-cli" not in services(shop))

    asyncio.run(main())


def services(bus: BusPath) -> set[str]:
    return {peer.announcement.service for peer in bus.client.engine.snapshot.peers.values() if peer.is_live}
