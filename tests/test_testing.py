"""The helpers for users' tests: a bus that is mocked, and a bus in memory."""

from __future__ import annotations

import asyncio
import inspect
import os
import queue
import re
import shutil
import sys
import threading
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lightbus
import lightbus.utilities.testing
from helpers import Door, Processes, wait_until
from helpers.failing import ODD
from helpers.surroundings import Surroundings
from lightbus import Api, BusPath, Event, LightbusWorkerError, Parameter
from lightbus.client import EngineState
from lightbus.events.consumer import Consumer
from lightbus.testing import BusMock, BusMocker, MemoryBus, MemoryDiscovery, NotMocked, bus_mocker, memory_bus

DOCS = Path(__file__).parents[1] / "docs" / "testing.md"


class AuthApi(Api):
    user_registered = Event(["username", Parameter("age", int, default=0)])

    class Meta:
        name = "auth"

    def check_password(self, username: str, password: str) -> bool:
        return password == "secret"

    def whoami(self) -> str:
        return threading.current_thread().name


@dataclass
class User:
    name: str


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API registered, which is never used on a network."""
    bus = lightbus.create(service_name="auth")
    bus.client.register_api(AuthApi())
    yield bus
    bus.client.close()


# --- the mocked bus: what to expect -----------------------------------------------------------------


def test_call_is_answered(bus: BusPath, door: Door) -> None:
    """A mocked procedure returns the given result, and the call is recorded with its arguments."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("auth.check_password", result=False)
        assert door.call(bus.auth.check_password, username="sally", password="secret") is False
        (message,) = mock.rpc_messages
    assert message.canonical_name == "auth.check_password"
    assert message.kwargs == {"username": "sally", "password": "secret"}
    assert message.id


def test_event_is_taken(bus: BusPath, door: Door) -> None:
    """A mocked event is recorded as a listener would be given it, defaults filled in; firing returns the message."""
    with bus_mocker(bus) as mock:
        mock.mock_event_firing("auth.user_registered")
        fired = door.fire(bus.auth.user_registered, username="sally")
        (message,) = mock.event_messages
    assert (message.id, message.kwargs) == (fired.id, {"username": "sally", "age": 0})
    assert (message.canonical_name, message.version) == ("auth.user_registered", 1)


def test_calling_an_event_fires_it(bus: BusPath) -> None:
    """`bus.api.event()` fires what is mocked as an event, also of an API that is not registered here."""
    with bus_mocker(bus) as mock:
        mock.mock_event_firing("auth.user_registered")
        mock.mock_event_firing("customers.new_customer")
        bus.auth.user_registered(username="sally")
        bus.customers.new_customer(email="sally@example.com")
    assert mock.event_names_fired == ["auth.user_registered", "customers.new_customer"]


def test_function_answers(bus: BusPath, door: Door) -> None:
    """A function as result is called with the arguments by name; an `async def` is awaited."""

    async def later(city: str) -> str:
        await asyncio.sleep(0)
        return city.upper()

    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("geo.find", result=lambda city: f"{city}!")
        assert door.call(bus.geo.find, city="Rome") == "Rome!"
        mock.mock_rpc_call("geo.find", result=later)
        assert door.call(bus.geo.find, city="Rome") == "ROME"


def test_function_may_call_the_bus(bus: BusPath) -> None:
    """A function that answers may make a blocking call of its own, as a handler may."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("geo.country", result="Italy")
        mock.mock_rpc_call("geo.find", result=lambda city: f"{city}, {bus.geo.country(city=city)}")
        assert bus.geo.find(city="Rome") == "Rome, Italy"


def test_error_of_the_bus_is_raised_as_it_is(bus: BusPath, door: Door) -> None:
    """An error of Lightbus given as result reaches the caller unchanged; a class of one does, too."""
    timeout = lightbus.LightbusTimeout("no answer")
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("geo.find", result=timeout)
        with pytest.raises(lightbus.LightbusTimeout, match="no answer") as caught:
            door.call(bus.geo.find)
        mock.mock_rpc_call("geo.find", result=lightbus.PeerLost)
        with pytest.raises(lightbus.PeerLost, match=r"^$"):
            door.call(bus.geo.find)
    assert caught.value is timeout


def test_other_error_is_that_of_a_handler(bus: BusPath, door: Door) -> None:
    """Any other exception, given or raised by the function, arrives as the caller of a failed handler gets it."""

    def find(city: str) -> str:
        raise KeyError(city, object)

    with bus_mocker(bus) as mock:
        for result in (KeyError("Rome", object), find):
            mock.mock_rpc_call("geo.find", result=result)
            with pytest.raises(lightbus.LightbusWorkerError, match=r"geo.find raised KeyError") as caught:
                door.call(bus.geo.find, city="Rome")
            assert caught.value.remote_type == "builtins.KeyError"
            assert caught.value.remote_args == ("Rome", "<class 'object'>")
            assert "KeyError" in caught.value.trace


def test_assertion_in_function_fails_the_test(bus: BusPath, door: Door) -> None:
    """An AssertionError of the function is the test's own, and no handler's."""

    def find(city: str) -> None:
        raise AssertionError(city)

    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("geo.find", result=find)
        with pytest.raises(AssertionError, match="Rome"):
            door.call(bus.geo.find, city="Rome")


def test_not_mocked_call(bus: BusPath, door: Door) -> None:
    """A call that was not mocked raises an AssertionError with the line to add, and counts for nothing."""
    line = re.escape("mock.mock_rpc_call('auth.check_password', result=...)")
    with bus_mocker(bus) as mock:
        with pytest.raises(NotMocked, match=line) as caught:
            door.call(bus.auth.check_password, username="sally", password="secret")
        assert isinstance(caught.value, AssertionError)
        mock.assert_rpc_not_called("auth.check_password")


def test_not_mocked_event(bus: BusPath, door: Door) -> None:
    """An event that was not mocked raises an AssertionError with the line to add."""
    with bus_mocker(bus) as mock:
        with pytest.raises(NotMocked, match=re.escape("mock.mock_event_firing('auth.user_registered')")):
            door.fire(bus.auth.user_registered, username="sally")
        mock.assert_event_not_fired("auth.user_registered")


def test_mocking_not_required(bus: BusPath, door: Door) -> None:
    """With `require_mocking=False` calls return None and events are taken, and both are recorded."""
    with bus_mocker(bus, require_mocking=False) as mock:
        assert door.call(bus.geo.find, city="Rome") is None
        door.fire(bus.auth.user_registered, username="sally")
    mock.assert_rpc_called("geo.find", times=1)
    mock.assert_events_fired("auth.user_registered", times=1)


def test_events_of_plugins_are_passed_over(bus: BusPath, door: Door) -> None:
    """Events of internal APIs are neither required to be mocked nor recorded, unless they are mocked."""
    with bus_mocker(bus) as mock:
        door.fire(bus.internal.state.server_ping)
        assert mock.event_messages == []
        mock.mock_event_firing("internal.state.server_ping")
        door.fire(bus.internal.state.server_ping)
        mock.assert_events_fired("internal.state.server_ping", times=1)


def test_arguments_are_validated(bus: BusPath, door: Door) -> None:
    """Arguments that the registered API does not take are refused before the mock is asked."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("auth.check_password", result=True)
        mock.mock_event_firing("auth.user_registered")
        with pytest.raises(lightbus.InvalidParameters, match="password"):
            door.call(bus.auth.check_password, username="sally")
        with pytest.raises(lightbus.ValidationError, match="age"):
            door.fire(bus.auth.user_registered, username="sally", age="old")
        with pytest.raises(lightbus.UnknownProcedure, match="check_password"):
            door.call(bus.auth.check_passwort, username="sally")
    assert repr(mock) == "<BusMock: 0 calls, 0 events>"


def test_result_is_validated(bus: BusPath, door: Door) -> None:
    """A mocked result that the registered procedure could not return is refused."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("auth.check_password", result="yes")
        with pytest.raises(lightbus.ValidationError, match="yes"):
            door.call(bus.auth.check_password, username="sally", password="secret")


def test_values_go_through_the_wire(bus: BusPath, door: Door) -> None:
    """What is recorded and returned is what a peer would see, and what cannot be sent is refused by name."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("users.add", result=(User("sally"), 1))
        mock.mock_event_firing("users.added")
        assert door.call(bus.users.add, user=User("sally")) == [{"name": "sally"}, 1]
        door.fire(bus.users.added, user=User("sally"))
        assert mock.get_next_rpc().kwargs == mock.get_next_event().kwargs == {"user": {"name": "sally"}}
        with pytest.raises(lightbus.DeformError, match=r"arguments of users.add cannot be sent: .*user"):
            door.call(bus.users.add, user=object())
        mock.mock_rpc_call("users.add", result=object())
        with pytest.raises(lightbus.DeformError, match=r"mocked result of users.add cannot be sent: .*object"):
            door.call(bus.users.add)


def test_mock_of_what_is_not_there(bus: BusPath) -> None:
    """A mock with a misspelt name is refused at once, where the API is registered or the name names none."""
    with bus_mocker(bus) as mock:
        with pytest.raises(lightbus.UnknownProcedure, match="check_password"):
            mock.mock_rpc_call("auth.check_passwort")
        with pytest.raises(lightbus.EventNotFound, match="user_registered"):
            mock.mock_event_firing("auth.user_register")
        with pytest.raises(lightbus.InvalidName, match=r"auth\.check_password"):
            mock.mock_rpc_call("check_password")


def test_callers_hooks_run(bus: BusPath, door: Door) -> None:
    """The hooks around calling and firing run, in order; those of execution do not, as nothing is executed."""
    ran: list[str] = []
    for name in ("rpc_call", "rpc_execution", "event_sent", "event_execution"):
        for when in ("before", "after"):
            getattr(bus.client, f"{when}_{name}")(lambda hook=f"{when}_{name}": ran.append(hook))
    with bus_mocker(bus, require_mocking=False):
        door.call(bus.geo.find)
        door.fire(bus.auth.user_registered, username="sally")
    assert ran == ["before_rpc_call", "after_rpc_call", "before_event_sent", "after_event_sent"]


# --- the mocked bus: what happened ------------------------------------------------------------------


@pytest.fixture
def used(bus: BusPath) -> BusMock:
    """Return a mock after two calls and three events."""
    with bus_mocker(bus, require_mocking=False) as mock:
        for city in ("Rome", "Oslo"):
            bus.geo.find.call(city=city)
            bus.auth.user_registered.fire(username=city)
        bus.geo.found.fire()
    return mock


def test_assertions_that_hold(used: BusMock) -> None:
    """Assertions about what happened pass, with and without a number."""
    used.assert_rpc_called("geo.find")
    used.assert_rpc_called("geo.find", times=2)
    used.assert_rpc_called("geo.lost", times=0)
    used.assert_rpc_not_called("geo.lost")
    used.assert_events_fired("auth.user_registered")
    used.assert_events_fired("auth.user_registered", times=2)
    used.assert_event_not_fired("geo.lost")


def test_assertions_that_fail(used: BusMock) -> None:
    """A failed assertion says what was expected, and what happened instead."""
    with pytest.raises(AssertionError, match=re.escape("geo.find was called 2 times, not 1 times")):
        used.assert_rpc_called("geo.find", times=1)
    with pytest.raises(AssertionError, match=re.escape("not at least once. What was called: geo.find (2).")):
        used.assert_rpc_called("geo.lost")
    with pytest.raises(AssertionError, match=r"geo.find was called 2 times, not 0"):
        used.assert_rpc_not_called("geo.find")
    with pytest.raises(AssertionError, match=re.escape("What was fired: auth.user_registered (2), geo.found (1).")):
        used.assert_events_fired("geo.lost")
    with pytest.raises(AssertionError, match=r"geo.found was fired 1 times, not 0"):
        used.assert_event_not_fired("geo.found")


def test_messages_by_name_and_in_turn(used: BusMock) -> None:
    """Messages are to be had all together, by name, and one after another, by name and over all."""
    assert used.rpc_names_called == ["geo.find", "geo.find"]
    assert used.event_names_fired == ["auth.user_registered", "auth.user_registered", "geo.found"]
    assert [message.kwargs["city"] for message in used.get_rpc_messages("geo.find")] == ["Rome", "Oslo"]
    assert [message.event_name for message in used.get_event_messages("geo.found")] == ["found"]
    assert [used.get_next_event("auth.user_registered").kwargs["username"] for _ in range(2)] == ["Rome", "Oslo"]
    assert [used.get_next_event().event_name for _ in range(3)] == ["user_registered", "user_registered", "found"]
    assert used.get_next_rpc("geo.find").kwargs == {"city": "Rome"}
    with pytest.raises(AssertionError, match=r"no further event auth.user_registered: there were 2"):
        used.get_next_event("auth.user_registered")
    with pytest.raises(AssertionError, match=r"no further call geo.lost: there were 0"):
        used.get_next_rpc("geo.lost")


def test_threads_share_a_mock(bus: BusPath, door: Door) -> None:
    """Calls and events of several threads are all recorded."""

    def use(number: int) -> Any:
        door.fire(bus.auth.user_registered, username=str(number))
        return door.call(bus.geo.square, number=number)

    with bus_mocker(bus) as mock, ThreadPoolExecutor(8) as threads:
        mock.mock_rpc_call("geo.square", result=lambda number: number**2)
        mock.mock_event_firing("auth.user_registered")
        assert list(threads.map(use, range(40))) == [number**2 for number in range(40)]
    mock.assert_rpc_called("geo.square", times=40)
    assert {message.kwargs["username"] for message in mock.event_messages} == {str(number) for number in range(40)}


# --- the mocked bus: its life -----------------------------------------------------------------------


def test_decorator_gives_the_mock(bus: BusPath) -> None:
    """A decorated test gets the mock first; what else it takes is seen by a test runner, and goes through."""

    @bus_mocker(bus)
    def test(mock: BusMock, one: int, *, two: int) -> int:
        mock.mock_rpc_call("geo.add", result=lambda a, b: a + b)
        return int(bus.geo.add(a=one, b=two))

    @bus_mocker(bus, require_mocking=False)
    async def test_async(mock: BusMock) -> list[str]:
        await bus.geo.find.call_async()
        return mock.rpc_names_called

    assert test(one=1, two=2) == 3  # type: ignore[call-arg]
    assert list(inspect.signature(test).parameters) == ["one", "two"]
    assert asyncio.run(test_async()) == ["geo.find"]  # type: ignore[call-arg, arg-type]


def test_decorator_in_a_test_case(bus: BusPath) -> None:
    """In a unittest.TestCase the mock comes after `self`; each run has a new one."""

    class Case(unittest.TestCase):
        @bus_mocker(bus)
        def test(self, mock: BusMock) -> None:
            mock.mock_rpc_call("geo.find", result="Rome")
            assert bus.geo.find() == "Rome"
            mock.assert_rpc_called("geo.find", times=1)

    for _ in range(2):
        result = unittest.TestResult()
        Case("test").run(result)
        assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_mock_ends(bus: BusPath) -> None:
    """After the mock the bus is what it was, also after an exception and when it was closed meanwhile."""
    before = bus.client.exchange_engine()
    with pytest.raises(ZeroDivisionError), bus_mocker(bus):
        raise ZeroDivisionError
    with bus_mocker(bus, require_mocking=False):
        bus.geo.find()
        bus.client.close()
        with pytest.raises(lightbus.BusAlreadyClosed, match="closed"):
            bus.geo.find()
    assert bus.client.exchange_engine() == before == EngineState()


def test_mocks_nest(bus: BusPath) -> None:
    """The inner mock stands for itself, and the outer one goes on after it."""
    mocker = BusMocker(bus)
    with mocker as outer:
        outer.mock_rpc_call("geo.find", result="outer")
        with mocker as inner:
            inner.mock_rpc_call("geo.find", result="inner")
            assert bus.geo.find() == "inner"
        assert bus.geo.find() == "outer"
    outer.assert_rpc_called("geo.find", times=1)


def test_mocked_bus_opens_nothing(bus: BusPath, surroundings: Surroundings) -> None:
    """A mocked bus makes neither thread nor file, waits for no API, and refuses to be a worker."""
    threads = set(threading.enumerate())
    with bus_mocker(bus, require_mocking=False):
        bus.geo.find()
        bus.client.wait_for_apis("geo", "auth", timeout=0.001)
        asyncio.run(bus.client.wait_for_apis_async("geo", timeout=0.001))
        assert set(threading.enumerate()) == threads
        assert not list(surroundings.runtime.iterdir())
        with pytest.raises(lightbus.UnsupportedUse, match="memory_bus"):
            asyncio.run(bus.client.start_worker())
        assert not bus.client.is_worker


def test_mock_in_a_loop_forbids_blocking(bus: BusPath) -> None:
    """A blocking call inside a running loop is refused with a mock as it is without."""

    async def main() -> None:
        bus.geo.find()

    with bus_mocker(bus, require_mocking=False), pytest.raises(lightbus.CannotBlockHere, match="call_async"):
        asyncio.run(main())


def test_upstreams_path() -> None:
    """The mocker is found where programs written for Lightbus import it from."""
    assert lightbus.utilities.testing.BusMocker is lightbus.utilities.testing.bus_mocker is BusMocker


# --- the bus in memory ------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory."""
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def auth(hub: MemoryBus) -> BusPath:
    """Return a worker on it that serves `auth`."""
    auth = hub.create(service_name="auth")
    auth.client.register_api(AuthApi())
    hub.start(auth)
    return auth


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
def test_listener_in_memory_is_given_events(hub: MemoryBus, door: Door) -> None:
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
    """Whatever bus, mode, interfaces and peers the environment names: only what is kept of events is on disk."""
    monkeypatch.setenv("LIGHTBUS_SECURITY", "insecure")
    monkeypatch.setenv("LIGHTBUS_PEERS", "127.0.0.1:1")
    with memory_bus() as hub:
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


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
def test_calls_take_no_file_no_socket_and_no_thread(surroundings: Surroundings) -> None:
    """A worker on a loop without kept events that calls itself opens nothing, and starts no threads for its network."""

    def taken() -> tuple[set[str], set[str]]:
        files = set[str]()
        for each in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # that of the listing itself
                files.add(os.readlink(f"/proc/self/fd/{each}"))
        return files, {thread.name for thread in threading.enumerate()}

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
    """A bus that is in use elsewhere goes on there afterwards."""
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
    """A bus in memory may be mocked for a while; its engine goes on."""
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


# --- the document -----------------------------------------------------------------------------------


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


# --- contexts ----------------------------------------------------------------------------------------


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def mocked_async() -> str:
    return mocked()


def mocked() -> str:
    found = TENANT.get()
    TENANT.set("the mock's")
    return found


class Promise:
    def __await__(self) -> Any:
        return mocked_async().__await__()


@pytest.mark.parametrize("function", [mocked, mocked_async, lambda: mocked_async(), Promise])
def test_a_mock_has_a_context_of_its_own(bus: BusPath, door: Door, function: Any) -> None:
    """As a handler it neither sees what the caller has set, nor leaves anything behind; what it returns is awaited."""

    def call() -> str:
        TENANT.set("the caller's")
        with bus_mocker(bus) as mock:
            mock.mock_rpc_call("auth.whoami", result=function)
            assert [door.call(bus.auth.whoami) for _ in range(2)] == ["nobody", "nobody"]
        return TENANT.get()

    assert Context().run(call) == "the caller's"


@pytest.mark.parametrize("kind", ["SystemExit", "CancelledError", "no text", "args that raise", "surrogates"])
def test_what_a_mock_raises_is_what_a_handler_raises(bus: BusPath, door: Door, kind: str) -> None:
    """Whatever it is, the caller gets the error that it would get of a handler."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("auth.whoami", result=ODD[kind]())
        with pytest.raises(LightbusWorkerError, match=r"^auth\.whoami raised "):
            door.call(bus.auth.whoami)


# --- as 1.x has it ----------------------------------------------------------------------------------


def test_mocked_call_fails(bus: BusPath, door: Door) -> None:
    """`error=True` has the caller get the LightbusWorkerError of a handler that failed, with the trace given."""
    with bus_mocker(bus) as mock:
        mock.mockRpcCall(full_rpc_name="auth.whoami", result="no database", error=True, trace="line 7")  # type: ignore[call-arg]
        with pytest.raises(LightbusWorkerError, match="no database") as failure:
            door.call(bus.auth.whoami)
        assert failure.value.trace == "line 7"
        mock.mock_rpc_call("auth.whoami", result=KeyError("odd"), error=True)
        with pytest.raises(LightbusWorkerError, match="odd"):
            door.call(bus.auth.whoami)
        with pytest.raises(lightbus.UnsupportedUse, match=r"'native_id'.*It has: name, result, error, trace"):
            mock.mock_rpc_call("auth.whoami", native_id="1")


def test_a_file_that_goes_away_while_the_directory_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is just ending may remove a file of it at the same time: the directory is gone all the same."""
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
