"""The engine of a client: made once, at first use, and never again after the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers import Door, wait_until
from helpers.clients import AuthApi
from lightbus import BusAlreadyClosed, BusClient, BusPath, Config, UnknownApi, create
from lightbus.client.engine_holder import EngineHolder, EngineState
from lightbus.engine.engine import Engine
from lightbus.membership.context import Identity
from lightbus.ports.discovery import Discovery
from lightbus.testing import MemoryBus, MemoryDiscovery

THREADS = 8


class FakeEngine:
    """What the holder and a channel touch of an engine."""

    def __init__(self, config: Config, identity: Identity) -> None:
        self.identity = identity
        self.channels: set[object] = set()
        self.transport = SimpleNamespace(when_grown=lambda callback: None)
        self.loop_host = SimpleNamespace(place=None)


def holder(made: list[object], prepared: list[str]) -> EngineHolder:
    """Return a holder that records the engines it makes, and the preparation before each."""

    def make(config: Config, identity: Identity) -> Engine:
        engine = cast(Engine, FakeEngine(config, identity))
        made.append(engine)
        return engine

    return EngineHolder(Config(service_name="shop", process_name="p"), make, lambda: prepared.append("prepared"))


def test_engine_is_made_once_by_many_threads() -> None:
    """The first thread makes it, after the preparation; all get the same one, and observers are called once."""
    made: list[object] = []
    prepared: list[str] = []
    engines = holder(made, prepared)
    told: list[object] = []
    engines.observe(told.append)
    assert engines.opened is None
    barrier = Barrier(THREADS)

    def use(number: int) -> object:
        barrier.wait(60)
        return engines.engine if number % 2 else engines.channel

    with ThreadPoolExecutor(THREADS) as threads:
        found = [*threads.map(use, range(THREADS))]
    assert len(made) == 1
    assert told == made
    assert prepared == ["prepared"]
    assert set(found) == {made[0], engines.channel}
    assert engines.opened is made[0]


def test_engine_that_cannot_be_made_is_tried_again() -> None:
    """An error of the preparation is raised, and the next use tries again."""
    made: list[object] = []
    fails = [ValueError("no plugin"), None]

    def prepare() -> None:
        if error := fails.pop(0):
            raise error

    engines = EngineHolder(
        Config(), lambda config, identity: made.append(identity) or cast(Engine, FakeEngine(config, identity)), prepare
    )
    with pytest.raises(ValueError, match="no plugin"):
        _ = engines.engine
    assert engines.engine is engines.engine
    assert len(made) == 1


def test_closed_holder_makes_no_engine() -> None:
    """After closing no engine is made; the existing one is returned once, to be closed."""
    made: list[object] = []
    engines = holder(made, [])
    engine = engines.engine
    assert engines.close() is engine
    assert engines.close() is None
    with pytest.raises(BusAlreadyClosed, match=r"Make a new one with lightbus\.create"):
        _ = engines.engine
    assert len(made) == 1


def test_use_while_another_thread_closes() -> None:
    """Whoever waits for the lock meanwhile makes no engine after the end."""
    made: list[object] = []
    engines = holder(made, [])

    class Lock:
        def __enter__(self) -> None:
            engines.is_closed = True  # by who had the lock

        def __exit__(self, *error: object) -> None:
            pass

    engines.lock = cast(Any, Lock())
    with pytest.raises(BusAlreadyClosed):
        _ = engines.engine
    assert made == []


def used(door: Door) -> Engine:
    """Return the engine of a bus that was used, and not closed."""
    bus = create(service_name="forgotten")
    with contextlib.suppress(UnknownApi):
        door.call(bus.nobody.there)
    return bus.client.engine


def test_engine_of_a_collected_bus_is_closed(door: Door) -> None:
    """Nothing of a bus that was forgotten stays until the process ends: no thread, no socket."""
    engine = used(door)
    wait_until(lambda: gc.collect() >= 0 and engine.loop_host.closed)  # a thread may still hold the last answer
    wait_until(
        lambda: not [each for each in threading.enumerate() if each.name in ("lightbus-engine", "lightbus-close")]
    )


def test_engine_on_a_loop_that_is_closed_when_its_bus_is_collected() -> None:
    """Then there is nothing to close it on, and no error."""

    async def use() -> Engine:
        bus = create(service_name="forgotten")
        await bus.client.start_worker()
        return bus.client.engine

    loop = asyncio.new_event_loop()
    engine = loop.run_until_complete(use())
    loop.run_until_complete(engine.loop_host.release())
    if tasks := asyncio.all_tasks(loop):  # which were cancelled
        loop.run_until_complete(asyncio.wait(tasks))
    engine.loop_host.place = cast(Any, (None, loop))  # as if it had been closed in use
    loop.close()
    gc.collect()
    assert not engine.loop_host.closed
    engine.loop_host.place = None
    engine.close()


def test_exchange_returns_the_former_state() -> None:
    """The new engine is used; the whole former state is returned, with the factory of the next engine."""
    made: list[object] = []
    engines = holder(made, [])
    engine = engines.engine
    other = cast(Engine, FakeEngine(Config(), engine.identity))
    before = engines.exchange(EngineState(other, None, False, lambda config, identity: other))
    assert before.engine is engine
    assert engines.engine is other
    engines.exchange(before)
    assert engines.engine is engine
    assert len(made) == 1


def test_forked_child_has_no_engine() -> None:
    """It makes its own, under a new lock; the inherited one is not used."""
    made: list[object] = []
    engines = holder(made, [])
    lock = engines.lock
    engines._engine = None  # what an engine's journals do at a fork is tested with them
    channel = engines._channel
    assert engines.abandon() == (None, channel, lock)
    assert engines.lock is not lock
    assert engines.engine is made[0]


def test_client_class_gets_the_factories(hub: MemoryBus) -> None:
    """A custom discovery reaches a custom client class, too."""
    asked: list[str] = []

    class Mine(BusClient):
        pass

    def discovery(bus: str) -> Discovery:
        asked.append(bus)
        return MemoryDiscovery(bus, hub.hub)

    bus = create(service_name="mine", client_class=Mine, discovery=discovery)
    with bus.client as client:
        assert isinstance(client, Mine)
        client.register_api(AuthApi())
        client.start_in_background()
        assert bus.auth.check_password(username="sally", password="secret") is True
    assert len(asked) == 1
    assert isinstance(bus, BusPath)
