"""Events as they happen, for the pages that show them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.dashboard.live_events import AT_ONCE, LiveEvents, Viewer
from lightbus.testing import MemoryBus


class ChatApi(Api):
    posted = Event(["message", "self"])

    class Meta:
        name = "chat"


def shown(viewer: Viewer, *events: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    for number, (name, kwargs) in enumerate(events):
        api, _, event = name.rpartition(".")
        viewer.add(EventMessage(api_name=api, event_name=event, kwargs=kwargs, id=str(number)))
    return [each["kwargs"] for each in viewer.take()["events"]]


EVENTS = [("auth.registered", {"name": "Ada", "old": True}), ("auth.left", {"name": "Grace"}), ("shop.sold", {"n": 1})]


@pytest.mark.parametrize(
    ("pattern", "text", "wanted"),
    [
        ("", "", [0, 1, 2]),
        ("auth.*", "", [0, 1]),
        ("*.sold", "", [2]),
        ("", "ada", [0]),
        ("", '"name":"ada"', [0]),
        ("", "true", [0]),
        ("auth.*", "gr", [1]),
        ("nothing", "", []),
    ],
)
def test_what_a_page_asks_for(pattern: str, text: str, wanted: list[int]) -> None:
    """By name, with wildcards, and by a text in the arguments as JSON has them, in small letters or large."""
    assert shown(Viewer(pattern, text), *EVENTS) == [EVENTS[each][1] for each in wanted]


def test_more_than_anybody_reads() -> None:
    """The newest are shown, and the others counted; then it begins anew."""
    viewer = Viewer("", "")
    for number in range(AT_ONCE + 7):
        viewer.add(EventMessage(api_name="auth", event_name="registered", kwargs={"n": number}))
    told = viewer.take()
    assert [each["kwargs"]["n"] for each in told["events"]] == [*range(7, AT_ONCE + 7)]
    assert told["passed_over"] == 7
    assert viewer.take() == {"events": [], "passed_over": 0}


def test_while_somebody_looks(hub: MemoryBus, connect: Any) -> None:
    """Events of every API are shown, whatever their arguments are called; and nobody listens once nobody looks."""
    bus = hub.create(service_name="chat")
    bus.client.register_api(ChatApi())

    async def main() -> None:
        await bus.client.start_worker()
        live, first, second = LiveEvents(connect), Viewer("", ""), Viewer("", "other")
        told: list[Any] = []

        async def arrives() -> bool:
            # Best effort: what is fired before the listener is known to the publisher is not for it.
            await bus.chat.posted.fire_async(message="hello", self="me")
            told.extend(first.take()["events"])
            return bool(told)

        async with live.viewing(first), live.viewing(second):
            assert live.is_listening
            while not await arrives():
                await asyncio.sleep(0.01)
            assert told[0]["kwargs"] == {"message": "hello", "self": "me"}
            assert told[0]["name"] == "chat.posted"
            assert second.take()["events"] == []
        assert not live.is_listening
        await bus.client.stop_worker()

    asyncio.run(main())


def test_listening_that_cannot_begin(connect: Any) -> None:
    """Who looks first is told, nothing is left behind, and the next one tries again."""
    bus = connect()

    async def fails() -> None:
        raise OSError("no room")

    async def main() -> None:
        bus.client.start_worker = fails  # type: ignore[method-assign]
        made = [bus, connect()]
        live = LiveEvents(lambda: made.pop(0))
        with pytest.raises(OSError, match="no room"):
            async with live.viewing(Viewer("", "")):
                pass
        assert not live.is_listening
        async with live.viewing(Viewer("", "")):
            assert live.is_listening
        await live.close()

    asyncio.run(main())


def test_end_while_somebody_looks(shop: BusPath, connect: Any) -> None:
    """The client that listened leaves the bus."""

    async def main() -> None:
        live = LiveEvents(connect)
        async with live.viewing(Viewer("", "")):
            await live.close()
            assert not live.is_listening
        await wait_until_async(lambda: "lightbus-cli" not in services(shop))

    asyncio.run(main())


def services(bus: BusPath) -> set[str]:
    return {peer.announcement.service for peer in bus.client.engine.snapshot.peers.values() if peer.is_live}
