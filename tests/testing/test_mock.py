"""A mock: its expectations, its records, and its assertions."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lightbus
import lightbus.utilities.testing
from helpers import Door
from lightbus import BusPath, LightbusWorkerError
from lightbus.testing import BusMock, NotMocked, bus_mocker


@pytest.fixture
def used(bus: BusPath) -> BusMock:
    """Return a mock after two calls and three events."""
    with bus_mocker(bus, require_mocking=False) as mock:
        for city in ("Rome", "Oslo"):
            bus.geo.find.call(city=city)
            bus.auth.user_registered.fire(username=city)
        bus.geo.found.fire()
    return mock


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
    """With `require_mocking=False` calls return None and events are accepted; both are recorded."""
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


def test_mock_of_an_unknown_name(bus: BusPath) -> None:
    """A misspelt name is refused at once, if the API is registered or the name has no API."""
    with bus_mocker(bus) as mock:
        with pytest.raises(lightbus.UnknownProcedure, match="check_password"):
            mock.mock_rpc_call("auth.check_passwort")
        with pytest.raises(lightbus.EventNotFound, match="user_registered"):
            mock.mock_event_firing("auth.user_register")
        with pytest.raises(lightbus.InvalidName, match=r"auth\.check_password"):
            mock.mock_rpc_call("check_password")


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
    """A failed assertion has the expectation, and what happened."""
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


def test_mocked_call_fails(bus: BusPath, door: Door) -> None:
    """`error=True` gives the caller the LightbusWorkerError of a failed handler, with the given trace."""
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
