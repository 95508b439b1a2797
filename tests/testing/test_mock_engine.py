"""The engine of a mocked bus: calls are answered and events accepted, encoded as on a network."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

import lightbus
import lightbus.utilities.testing
from helpers import Door
from helpers.failing import ODD
from helpers.surroundings import Surroundings
from lightbus import BusPath, LightbusWorkerError
from lightbus.testing import bus_mocker


@dataclass
class User:
    name: str


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


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
    """A mocked event is recorded as a listener would get it, with defaults; firing returns the message."""
    with bus_mocker(bus) as mock:
        mock.mock_event_firing("auth.user_registered")
        fired = door.fire(bus.auth.user_registered, username="sally")
        (message,) = mock.event_messages
    assert (message.id, message.kwargs) == (fired.id, {"username": "sally", "age": 0})
    assert (message.canonical_name, message.version) == ("auth.user_registered", 1)


def test_calling_an_event_fires_it(bus: BusPath) -> None:
    """`bus.api.event()` fires a mocked event, also of an API that is not registered here."""
    with bus_mocker(bus) as mock:
        mock.mock_event_firing("auth.user_registered")
        mock.mock_event_firing("customers.new_customer")
        bus.auth.user_registered(username="sally")
        bus.customers.new_customer(email="sally@example.com")
    assert mock.event_names_fired == ["auth.user_registered", "customers.new_customer"]


def test_function_as_result_is_called_with_the_arguments(bus: BusPath, door: Door) -> None:
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
    """A function that answers may make a blocking call, as a handler may."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("geo.country", result="Italy")
        mock.mock_rpc_call("geo.find", result=lambda city: f"{city}, {bus.geo.country(city=city)}")
        assert bus.geo.find(city="Rome") == "Rome, Italy"


def test_error_of_the_bus_is_raised_as_it_is(bus: BusPath, door: Door) -> None:
    """An error of Lightbus, or its class, given as result reaches the caller unchanged."""
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
    """Any other exception, given or raised, becomes the error of a failed handler."""

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
    """Values are recorded and returned as a peer would see them; unsendable values are refused by name."""
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


def test_callers_hooks_run(bus: BusPath, door: Door) -> None:
    """The hooks around calling and firing run, in order; those of execution do not."""
    ran: list[str] = []
    for name in ("rpc_call", "rpc_execution", "event_sent", "event_execution"):
        for when in ("before", "after"):
            getattr(bus.client, f"{when}_{name}")(lambda hook=f"{when}_{name}": ran.append(hook))
    with bus_mocker(bus, require_mocking=False):
        door.call(bus.geo.find)
        door.fire(bus.auth.user_registered, username="sally")
    assert ran == ["before_rpc_call", "after_rpc_call", "before_event_sent", "after_event_sent"]


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
def test_a_mock_has_its_own_context(bus: BusPath, door: Door, function: Any) -> None:
    """Like a handler it does not see the caller's context, nor change it; an awaitable result is awaited."""

    def call() -> str:
        TENANT.set("the caller's")
        with bus_mocker(bus) as mock:
            mock.mock_rpc_call("auth.whoami", result=function)
            assert [door.call(bus.auth.whoami) for _ in range(2)] == ["nobody", "nobody"]
        return TENANT.get()

    assert Context().run(call) == "the caller's"


@pytest.mark.parametrize("kind", ["SystemExit", "CancelledError", "no text", "args that raise", "surrogates"])
def test_what_a_mock_raises_is_what_a_handler_raises(bus: BusPath, door: Door, kind: str) -> None:
    """The caller gets the same error as from a handler."""
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("auth.whoami", result=ODD[kind]())
        with pytest.raises(LightbusWorkerError, match=r"^auth\.whoami raised "):
            door.call(bus.auth.whoami)
