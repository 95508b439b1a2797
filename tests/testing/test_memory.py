"""The bus in memory: real workers and clients in one process, with no network."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import lightbus
import lightbus.utilities.testing
from helpers import Door, Processes, wait_until
from helpers.auth_api import AuthApi
from helpers.surroundings import Surroundings
from lightbus import Api, BusPath, Event, EventMessage, OnError, Parameter
from lightbus.client import EngineState
from lightbus.events.listening import delivery
from lightbus.events.listening.consumer import Consumer
from lightbus.testing import MemoryBus, MemoryDiscovery, bus_mocker, memory_bus

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.mark.usefixtures("auth")
def test_worker_in_memory_is_called(hub: MemoryBus, door: Door) -> None:
    """A worker and a caller find each other, and a call goes through the real handler."""
    caller = hub.create()
    assert door.call(caller.auth.check_password, username="sally", password="secret") is True
    assert door.call(caller.auth.whoami).startswith("lightbus-handler")


@pytest.mark.parametrize("listener_first", [True, False])
def test_workers_start_in_any_order(hub: MemoryBus, listener_first: bool) -> None:
    """Once `start` returns each event arrives, whichever worker was started first; a worker may hear itself."""
    heard: queue.Queue[str] = queue.Queue()
    auth, greeter = hub.create(), hub.create()
    auth.client.register_api(AuthApi())
    for listener in (auth, greeter):
        listener.auth.user_registered.listen(lambda message, username: heard.put(username), listener_name="greet")
    for bus in (greeter, auth) if listener_first else (auth, greeter):
        hub.start(bus)
    auth.auth.user_registered.fire(username="sally")
    assert [heard.get(timeout=60), heard.get(timeout=60)] == ["sally", "sally"]


def test_listener_that_does_not_get_ready(hub: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that is not live in time is named."""
    auth = hub.create(service_name="auth")
    auth.client.register_api(AuthApi())
    auth.auth.user_registered.listen(lambda message: None, listener_name="greet")
    monkeypatch.setattr(Consumer, "is_live_at", lambda consumer, instance: False)
    with pytest.raises(lightbus.LightbusTimeout, match="do not listen: auth to auth"):
        hub.start(auth, timeout=0.01)


@pytest.mark.usefixtures("auth")
def test_listener_in_memory_gets_events(hub: MemoryBus, door: Door) -> None:
    """An event fired by a client reaches a listener of another service."""
    heard: queue.Queue[str] = queue.Queue()
    greeter, caller = hub.create(), hub.create()
    greeter.auth.user_registered.listen(lambda message, username: heard.put(username), listener_name="greet")
    hub.start(greeter)
    door.fire(caller.auth.user_registered, username="sally")
    assert heard.get(timeout=60) == "sally"


def test_worker_on_the_tests_loop(surroundings: Surroundings) -> None:
    """With `async with` workers may run on the test's own loop; all are stopped at its end."""

    async def main() -> None:
        async with memory_bus() as hub:
            auth, caller = hub.create(), hub.create()
            auth.client.register_api(AuthApi())
            await hub.start_async(auth)
            assert await caller.auth.check_password.call_async(username="sally", password="guess") is False
        assert not auth.client.is_worker

    asyncio.run(main())
    assert surroundings.left_files() == []


def test_memory_buses_are_alone(hub: MemoryBus, auth: BusPath) -> None:
    """A caller on another bus in memory does not see the worker, and hears so soon."""
    with memory_bus() as other, pytest.raises(lightbus.UnknownApi, match="No peer advertises anything"):
        other.create().auth.whoami()


def test_settings_of_the_network_do_not_count(monkeypatch: pytest.MonkeyPatch, surroundings: Surroundings) -> None:
    """Bus, mode, interfaces and peers in the environment are ignored; only with `journal` events are on disk."""
    monkeypatch.setenv("LIGHTBUS_SECURITY", "insecure")
    monkeypatch.setenv("LIGHTBUS_PEERS", "127.0.0.1:1")
    with memory_bus(journal=True) as hub:
        auth = hub.create({"network": {"interfaces": ["127.0.0.1"]}, "apis": {"auth": {"rpc_timeout": 0.5}}})
        auth.client.register_api(AuthApi())
        hub.start(auth)
        assert hub.create().auth.whoami()
        (directory,) = surroundings.temporary.iterdir()
        assert [path.name for path in directory.iterdir()] == [auth.client.engine.identity.bus]
        assert directory.stat().st_mode & 0o077 == 0
        assert auth.client.engine.config.api("auth").rpc_timeout == 0.5
    assert not directory.exists()
    assert not list(surroundings.runtime.iterdir())


class ClockApi(Api):
    class Meta:
        name = "clock"

    async def read(self) -> int:
        return 12


def taken() -> tuple[set[str], set[str]]:
    """Return which files and sockets this process has open, and its threads."""
    files = set[str]()
    for each in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            files.add(os.readlink(f"/proc/self/fd/{each}"))
    return files, {thread.name for thread in threading.enumerate()}


class ShopApi(Api):
    sold = Event([Parameter("number", int)])
    opened = Event(["number"])

    class Meta:
        name = "shop"


class OtherApi(Api):
    happened = Event(["what"])

    class Meta:
        name = "shop.other"


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
def test_events_take_no_file_no_socket_and_no_thread(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do groups, retries, dead letters, history, and events without a publisher."""
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.001)
    handled: list[int] = []

    async def handle(message: EventMessage, number: int) -> None:
        if number == 1:
            raise ValueError("out of paper")
        handled.append(number)

    async def main() -> None:
        before = taken()
        async with memory_bus(observe=True) as hub:
            shop, *desks = (hub.create(service_name=name) for name in ("shop", "desk", "desk", "mail"))
            shop.client.register_api(ShopApi())
            for bus in desks:
                bus.shop.sold.listen(handle, listener_name="handle", bus_options={"since": "0"}, on_error=OnError.RETRY)
            await hub.start_async(shop, *desks)
            for number in (1, 2):
                await desks[0].shop.sold.fire_async(number=number)
            await hub.wait_until_handled_async(60)
            assert handled == [2, 2]
            assert len(await shop.shop.sold.history_async()) == 2
            peer = {"peer": shop.client.engine.identity.instance}
            dead = await desks[0].client.call_rpc_remote("internal.events", "dead", {}, peer)
            assert sorted(each["group"] for each in dead) == ["desk-handle", "mail-handle"]
            files, threads = taken()
            assert files - before[0] == set()
            assert threads - before[1] <= {"lightbus-watchdog", "lightbus-handler"}
            alone = hub.create()
            alone.client.register_api(OtherApi())
            await alone.shop.other.happened.fire_async(what="nobody publishes it yet")
            new = taken()[0] - before[0]  # of sockets its loop has a pair, in a thread of its own: it runs no worker
            assert not [each for each in new if each.startswith("/")]
        assert not list(surroundings.temporary.iterdir())
        assert not list(surroundings.runtime.iterdir())
        assert not list(surroundings.data.iterdir())

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
def test_calls_take_no_file_no_socket_and_no_thread(surroundings: Surroundings) -> None:
    """A worker on a loop that calls itself opens nothing, and starts no threads for its network."""

    async def main() -> None:
        before = taken()
        async with memory_bus() as hub:
            clock = hub.create()
            clock.client.register_api(ClockApi())
            await hub.start_async(clock)
            assert await clock.clock.read.call_async() == 12
            files, threads = taken()
            assert files - before[0] == set()
            assert threads - before[1] <= {"lightbus-watchdog", "lightbus-handler"}
        assert not list(surroundings.temporary.iterdir())
        assert not list(surroundings.runtime.iterdir())

    asyncio.run(main())


PROGRAM = """
import asyncio, sys
import lightbus
from lightbus.testing import memory_bus

class ShopApi(lightbus.Api):
    sold = lightbus.Event(["number"])
    class Meta:
        name = "shop"
    async def read(self) -> int:
        return 12

async def main():
    handled = asyncio.Event()
    async with memory_bus() as hub:
        shop, desk = hub.create(), hub.create()
        shop.client.register_api(ShopApi())
        async def handle(message, number): handled.set()
        desk.shop.sold.listen(handle, listener_name="handle")
        await hub.start_async(shop, desk)
        assert await desk.shop.read.call_async() == 12
        await desk.shop.sold.fire_async(number=1)
        await handled.wait()

asyncio.run(main())
print(*(name for name in ("zmq", "zeroconf", "nats") if name in sys.modules), end="")
"""


@pytest.mark.new_interpreters
def test_a_bus_in_memory_needs_no_library_of_a_network(processes: Processes) -> None:
    """Calls and events go without ZeroMQ, zeroconf and NATS."""
    process = processes.python("-c", PROGRAM)
    assert process.wait() == 0, process.report()
    assert process.stdout == ""


def listening_bus() -> tuple[BusPath, queue.Queue[str]]:
    """Return a bus as a bus module makes it: API, listener and schedule are set up in `on_start`."""
    bus, heard = lightbus.create(service_name="auth"), queue.Queue[str]()

    @bus.client.on_start()
    def on_start() -> None:
        bus.client.register_api(AuthApi())
        bus.auth.user_registered.listen(lambda message, username: heard.put(username), listener_name="greet")
        bus.client.every(hours=1)(lambda: None)

    return bus, heard


def test_attached_bus_can_be_used_again_and_again() -> None:
    """A bus of a module takes part in one bus in memory after another; what `on_start` adds is undone each time."""
    bus, heard = listening_bus()
    for name in ("sally", "harry"):
        with memory_bus() as hub:
            hub.start(hub.attach(bus))
            hub.create().auth.user_registered.fire(username=name)
            assert heard.get(timeout=60) == name
        assert not bus.client.is_worker
    client = bus.client
    assert (client.listeners, client.timetables, client.api_registry.names()) == ([], [], [])
    assert not client.schema.knows("auth")
    assert client.exchange_engine() == EngineState()


def test_attached_bus_returns_to_its_own(bus: BusPath) -> None:
    """A bus that was in use before works again afterwards."""
    own = bus.client.engine
    with memory_bus() as hub:
        hub.attach(bus)
        with pytest.raises(lightbus.UnknownApi, match="MemoryDiscovery"):
            bus.nobody.there()
        assert bus.client.engine is not own
    assert bus.client.engine is own
    assert bus.client.engine.identity.bus == bus.client.config.bus_name


def test_attaching_twice_or_a_worker_is_refused(bus: BusPath, hub: MemoryBus) -> None:
    """A bus is attached once, and not while it runs a worker elsewhere."""
    hub.attach(bus)
    with pytest.raises(lightbus.UnsupportedUse, match="auth is on a bus: stop its worker first"):
        hub.attach(bus)
    bus.client.start_in_background()
    with memory_bus() as other, pytest.raises(lightbus.UnsupportedUse, match="auth is on a bus"):
        other.attach(bus)


def test_mock_on_a_bus_in_memory(hub: MemoryBus, auth: BusPath) -> None:
    """A bus in memory can be mocked temporarily; its engine keeps running."""
    caller = hub.create()
    assert caller.auth.check_password(username="sally", password="guess") is False
    with bus_mocker(caller) as mock:
        mock.mock_rpc_call("auth.check_password", result=True)
        assert caller.auth.check_password(username="sally", password="guess") is True
    assert caller.auth.check_password(username="sally", password="guess") is False


def test_own_discovery_on_the_hub(hub: MemoryBus, auth: BusPath) -> None:
    """A MemoryDiscovery on the hub hears of the workers there: the fake of the interface is public."""

    async def main() -> list[str]:
        found: list[str] = []
        discovery = MemoryDiscovery(auth.client.engine.identity.bus, hub.hub)
        await discovery.start(lambda announcement: found.append(announcement.service), lambda instance: None)
        await asyncio.sleep(0)
        await discovery.stop()
        return found

    assert asyncio.run(main()) == ["auth"]


def test_examples_of_the_document(processes: Processes, tmp_path: Path) -> None:
    """The examples of docs/testing.md pass, as they stand there."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert {name for name, _ in blocks} == {
        "bus.py",
        "website.py",
        "test_mocked.py",
        "test_in_memory.py",
        "test_fixtures.py",
    }
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    run = processes.python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."),
        cwd=tmp_path,
        env={"PYTEST_ADDOPTS": ""},  # what is asked of this run is not asked of that one
    )
    assert run.wait(60) == 0, run.report()
    assert "10 passed" in run.stdout
    wait_until(lambda: not run.running)


def test_a_file_that_goes_away_while_the_directory_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is ending may remove a file at the same time: the directory is still removed."""
    remove, attempts = shutil.rmtree, list[Path]()

    def removed_at_the_second(path: Path, **options: Any) -> None:
        attempts.append(path)
        if len(attempts) > 1:
            remove(path, **options)

    hub = memory_bus()
    hub._directory.mkdir()
    monkeypatch.setattr(shutil, "rmtree", removed_at_the_second)
    hub.close()
    assert attempts == [hub._directory] * 2
    assert not hub._directory.exists()
