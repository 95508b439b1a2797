"""Live events, for viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.cli.support.connection import Connection
from lightbus.engine.raw_listeners import RawListeners
from lightbus.events.listening.raw_events import RawEvents
from lightbus.listener import Listener
from lightbus.testing import MemoryBus
from lightbus.web import live_events as module
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

    def names(self) -> set[str]:
        """Return the names of the events that arrived."""
        return {each.canonical_name for each in self.events}


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and wait for a next viewer no longer than necessary."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(module, "LINGER", 0.02)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)


def run(connect: Callable[[], Connection], test: Callable[[LiveEvents], Awaitable[None]], **given: Any) -> Connection:
    """Run a test with live events, close them, and return the closed client."""

    async def main() -> Connection:
        bus = connect()
        live = LiveEvents(bus, name="looks", **given)
        try:
            await test(live)
        finally:
            await live.close()
            assert not live.is_listening
            await bus.close()
        return bus

    return asyncio.run(main())


@pytest.fixture
def chat(hub: MemoryBus) -> BusPath:
    """Return a worker that fires events."""
    bus = hub.create(service_name="chat")
    bus.client.register_api(ChatApi())
    hub.start(bus)
    return bus


async def arrives(chat: BusPath, looker: Looker) -> None:
    """Fire until an event arrives: what is fired before the publisher knows of the listener is not for it."""
    count = len(looker.events)
    while len(looker.events) == count:
        await chat.chat.posted.fire_async(message="hello", self="me")
        await asyncio.sleep(0.01)


def test_events_arrive_while_there_are_viewers(chat: BusPath, connect: Any) -> None:
    """Events of every API arrive, with any argument names; without a viewer nothing listens."""

    async def test(live: LiveEvents) -> None:
        first, second = Looker(), Looker()
        with live.viewing(first), live.viewing(second):
            await arrives(chat, first)
            assert live.is_listening
            assert first.events[0].kwargs == {"message": "hello", "self": "me"}
            assert first.names() == {"chat.posted"}
            told = [each.id for each in first.events]
            assert [each.id for each in second.events[: len(told)]] == told
        await wait_until_async(lambda: not live.is_listening)

    run(connect, test)


def test_a_viewer_that_comes_again(chat: BusPath, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets events, also after the connections were closed; one that is back soon finds the same listeners."""
    monkeypatch.setattr(module, "LINGER", 60.0)
    monkeypatch.setattr(module, "CLOSE_AFTER", 0.02)
    passes, waits = module.passes, []

    async def noted(event: asyncio.Event, seconds: float) -> bool:
        waits.append(seconds)
        return await passes(event, seconds)

    monkeypatch.setattr(module, "passes", noted)
    closed: list[RawListeners] = []
    close_unused = RawListeners.close_unused
    monkeypatch.setattr(RawListeners, "close_unused", lambda self: [closed.append(self), close_unused(self)])

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
            added = dict(live._added)
        await wait_until_async(lambda: waits)
        monkeypatch.setattr(module, "LINGER", 0.02)
        with live.viewing(looker):
            await arrives(chat, looker)
            assert live._added == added
        await wait_until_async(lambda: closed)
        with live.viewing(looker):
            await arrives(chat, looker)
        assert len(set(closed)) == 1

    run(connect, test)


def test_only_wanted_apis_are_listened_to(shop: BusPath, connect: Any) -> None:
    """There is no listener for others."""

    async def test(live: LiveEvents) -> None:
        with live.viewing(Looker()):
            await wait_until_async(lambda: "auth" in live.apis)
            assert live.apis == {"auth"}

    run(connect, test, wants=lambda api: api == "auth")


def test_apis_that_appear_later(hub: MemoryBus, chat: BusPath, connect: Any) -> None:
    """They are listened to, too."""

    class Later(Api):
        happened = Event(["what"])

        class Meta:
            name = "later"

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
            bus = hub.create()
            bus.client.register_api(Later())
            await hub.start_async(bus)
            while "later.happened" not in looker.names():
                await bus.later.happened.fire_async(what="it")
                await asyncio.sleep(0.01)
            await bus.client.stop_worker()

    run(connect, test)


def test_a_listener_that_cannot_be_added(
    chat: BusPath, connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again, and logged once; also if an attempt does not end."""
    monkeypatch.setattr(module, "ADD_TIMEOUT", 0.05)
    add, tries = RawListeners.add, 0

    async def fails(self: RawListeners, listener: Listener) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise OSError("no room")
        if tries == 3:
            monkeypatch.setattr(module, "ADD_TIMEOUT", 60.0)  # of the next attempt
            await asyncio.get_running_loop().create_future()
        await add(self, listener)

    monkeypatch.setattr(RawListeners, "add", fails)

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)

    run(connect, test)
    assert tries == 4
    assert caplog.text.count("The events of chat cannot be listened to at the moment") == 1
    assert "OSError: no room" in caplog.text


def test_listening_that_cannot_start(
    chat: BusPath, connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again, and logged once; the viewers stay."""
    begin, tries = module.raw_listeners, 0

    async def fails(*given: Any) -> RawListeners:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError("no room")
        return await begin(*given)

    monkeypatch.setattr(module, "raw_listeners", fails)

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)

    run(connect, test)
    assert tries == 4
    assert caplog.text.count("Live events stop for a moment: OSError: no room") == 1


def test_a_viewer_that_fails(chat: BusPath, connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The others get the events; it is logged once."""

    class Fails(Looker):
        def add(self, events: RawEvents) -> None:
            super().add(events)
            raise ValueError("nobody thought of it")

    async def test(live: LiveEvents) -> None:
        first, second = Fails(), Looker()
        with live.viewing(first), live.viewing(second):
            await arrives(chat, second)
            await arrives(chat, second)
            assert len(first.events) == len(second.events)

    run(connect, test)
    assert caplog.text.count("Events of chat.posted cannot be shown: this is a fault of Lightbus") == 1


def test_a_listener_that_has_failed(chat: BusPath, connect: Any) -> None:
    """A new one takes its place."""

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
            assert live._listeners is not None
            [(listener, _)] = live._added.values()
            runner = live._listeners._consumer.runner_of(listener)
            assert runner is not None
            runner._give_up(RuntimeError("it cannot go on"))
            await arrives(chat, looker)
            assert live._added["chat"].listener is not listener

    run(connect, test)


def test_a_node_that_has_gone(chat: BusPath, connect: Any) -> None:
    """The listeners are added anew at the node that takes its place."""

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
            await live._bus.client.engine.loop_host.release()
            await arrives(chat, looker)

    run(connect, test)


@pytest.mark.parametrize("where", ["runs", "remove"])
def test_a_failure_when_the_last_viewer_leaves(
    chat: BusPath, connect: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The listeners are removed all the same, and the connections closed."""
    monkeypatch.setattr(module, "CLOSE_AFTER", 0.02)
    monkeypatch.setattr(module, "REMOVE_TIMEOUT", 0.02)
    closed: list[RawListeners] = []
    monkeypatch.setattr(RawListeners, "close_unused", lambda self: closed.append(self))
    failed: list[object] = []

    def runs(self: RawListeners, listener: Listener) -> bool:
        failed.append(self)
        raise OSError("no room")

    async def remove(self: RawListeners, listener: Listener) -> None:
        failed.append(self)
        await asyncio.get_running_loop().create_future()

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
            with monkeypatch.context() as broken:
                broken.setattr(RawListeners, where, runs if where == "runs" else remove)
                if where == "runs":
                    await wait_until_async(lambda: failed)
                else:
                    live._viewers.clear()
                    live._is_viewed.clear()
                    await wait_until_async(lambda: failed and closed)
        await wait_until_async(lambda: not live.is_listening and closed)

    run(connect, test)


def test_an_end_that_takes_too_long(
    chat: BusPath, connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up, with a log line, and raises nothing."""
    stop = RawListeners.stop

    async def never(self: RawListeners) -> None:
        await stop(self)
        await asyncio.get_running_loop().create_future()

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
        monkeypatch.setattr(module, "REMOVE_TIMEOUT", 0.05)
        monkeypatch.setattr(RawListeners, "stop", never)
        await live.close()

    run(connect, test)
    assert "A listener of live events did not end as it should: TimeoutError" in caplog.text


def test_end_with_open_viewers(chat: BusPath, connect: Any) -> None:
    """The client can leave the bus, and was no worker meanwhile."""

    async def test(live: LiveEvents) -> None:
        looker = Looker()
        with live.viewing(looker):
            await arrives(chat, looker)
            assert services(chat) == {"chat"}
            await live.close()
            assert not live.is_listening

    run(connect, test)


def services(bus: BusPath) -> set[str]:
    return {peer.announcement.service for peer in bus.client.engine.snapshot.peers.values() if peer.is_live}
