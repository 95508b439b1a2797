"""Listeners to undecoded events in a process that is not a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import Api, BusPath, Event
from lightbus.adapters.memory.connecting_sockets import MemoryDealer
from lightbus.adapters.memory.transport import MemoryTransport
from lightbus.deadline import Deadline
from lightbus.engine.raw_listeners import RawListeners, raw_listeners
from lightbus.events.listening import consumer as consumer_module
from lightbus.events.listening.consumer import Consumer
from lightbus.events.listening.raw_events import RawEvents
from lightbus.exceptions import TransportError
from lightbus.listener import Listener
from lightbus.testing import MemoryBus


class ChatApi(Api):
    posted = Event(["n"])
    typing = Event(["n"], delivery="best_effort")

    class Meta:
        name = "chat"


class Seen:
    """A listener, and the arguments of its events."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.listener = Listener(api="chat", events=("*",), name="looks", function=self._take, takes_raw=True)

    def _take(self, events: RawEvents) -> None:
        self.numbers += [message.kwargs["n"] for message in events.messages()]


Test = Callable[[RawListeners, BusPath, BusPath], Awaitable[None]]


@pytest.fixture(params=["memory", "journal"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Return a function that runs a test with a worker, and with listeners of another process."""

    async def main(test: Test) -> None:
        async with MemoryBus(journal=request.param == "journal") as hub:
            worker, client = hub.create(service_name="chat"), hub.create()
            worker.client.register_api(ChatApi())
            await hub.start_async(worker)
            await client.client.engine.resolve("chat", Deadline.after(60.0))
            listeners = await raw_listeners(client.client.engine, client.client.api_registry)
            await test(listeners, worker, client)
            await listeners.stop()

    return lambda test: asyncio.run(main(test))


def test_added_and_removed(run: Callable[[Test], None]) -> None:
    """Events that are stored, and those that are not, arrive until it is removed, and again after it is added again."""

    async def test(listeners: RawListeners, worker: BusPath, client: BusPath) -> None:
        seen = Seen()
        assert not listeners.runs(seen.listener)
        await listeners.add(seen.listener)
        assert listeners.runs(seen.listener)
        await worker.chat.posted.fire_async(n=1)
        await worker.chat.typing.fire_async(n=2)
        await wait_until_async(lambda: sorted(seen.numbers) == [1, 2])
        await listeners.remove(seen.listener)
        assert not listeners.runs(seen.listener)
        await worker.chat.posted.fire_async(n=3)
        await worker.chat.typing.fire_async(n=4)
        listeners.close_unused()
        await listeners.add(seen.listener)
        await worker.chat.posted.fire_async(n=5)
        await worker.chat.typing.fire_async(n=6)
        await wait_until_async(lambda: sorted(seen.numbers) == [1, 2, 5, 6])

    run(test)


def test_it_is_no_worker(run: Callable[[Test], None]) -> None:
    """Nobody sees it; its node runs on this loop, and still finds peers."""

    async def test(listeners: RawListeners, worker: BusPath, client: BusPath) -> None:
        await listeners.add(Seen().listener)
        assert client.client.worker is None
        assert client.client.engine.loop_host.ensure()[1] is asyncio.get_running_loop()
        assert set(worker.client.engine.snapshot.peers) == {worker.client.engine.identity.instance}
        assert not listeners.is_over
        await client.client.engine.loop_host.release()
        assert listeners.is_over

    run(test)


def test_a_publisher_that_comes_later(run: Callable[[Test], None]) -> None:
    """Its events arrive, too; those of one that has left do not hold anything up."""

    async def test(listeners: RawListeners, worker: BusPath, client: BusPath) -> None:
        seen = Seen()
        await listeners.add(seen.listener)
        await worker.client.stop_worker()
        await worker.client.start_worker()
        numbers = iter(range(1000))
        while not seen.numbers:
            await worker.chat.typing.fire_async(n=next(numbers))
            await asyncio.sleep(0.01)

    run(test)


def test_a_listener_that_cannot_be_added(monkeypatch: pytest.MonkeyPatch, run: Callable[[Test], None]) -> None:
    """Nothing of it is left, and it can be added again."""

    async def fails(*given: object) -> None:
        raise OSError("no room")

    async def test(listeners: RawListeners, worker: BusPath, client: BusPath) -> None:
        seen = Seen()
        part = listeners._consumer if listeners._at_backends is None else listeners._at_backends
        with monkeypatch.context() as broken:
            broken.setattr(type(part), "add", fails)
            with pytest.raises(OSError, match="no room"):
                await listeners.add(seen.listener)
        assert not listeners.runs(seen.listener)
        await listeners.add(seen.listener)
        await worker.chat.posted.fire_async(n=1)
        await wait_until_async(lambda: seen.numbers == [1])

    run(test)


def test_adding_is_given_up(monkeypatch: pytest.MonkeyPatch, run: Callable[[Test], None]) -> None:
    """Nothing of it is left: added again, it gets each event once, and none after it was removed."""

    async def never(*given: object) -> None:
        await asyncio.get_running_loop().create_future()

    async def test(listeners: RawListeners, worker: BusPath, client: BusPath) -> None:
        seen = Seen()
        with monkeypatch.context() as slow:
            slow.setattr(Consumer, "_live", never)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await listeners.add(seen.listener)
        await listeners.add(seen.listener)
        await worker.chat.typing.fire_async(n=1)
        await worker.chat.typing.fire_async(n=2)
        await wait_until_async(lambda: 2 in seen.numbers)
        assert seen.numbers == [1, 2]
        await listeners.remove(seen.listener)
        assert listeners._consumer.runners == []

    run(test)


def test_a_publisher_that_cannot_be_connected_to(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run: Callable[[Test], None]
) -> None:
    """Adding succeeds all the same; it is logged once, and its events arrive as soon as it can be."""
    monkeypatch.setattr(consumer_module, "TICK", 0.01)
    dealer, tries = MemoryTransport.dealer, 0

    async def test(listeners: RawListeners, worker: BusPath, client: BusPath) -> None:
        nonlocal tries
        seen = Seen()
        [broken] = client.client.engine.snapshot.publishers("chat")

        def fails(self: MemoryTransport, endpoint: str, *given: Any, **more: Any) -> MemoryDealer:
            nonlocal tries
            if endpoint == broken.endpoint:
                tries += 1
                raise TransportError("No further socket can be opened")
            return dealer(self, endpoint, *given, **more)

        with monkeypatch.context() as patched:
            patched.setattr(MemoryTransport, "dealer", fails)
            await listeners.add(seen.listener)
            assert listeners.runs(seen.listener)
            await wait_until_async(lambda: tries > 2)
        numbers = iter(range(1000))
        while not seen.numbers:
            await worker.chat.typing.fire_async(n=next(numbers))
            await asyncio.sleep(0.01)

    run(test)
    assert caplog.text.count("cannot be connected to, which is tried again") == 1
