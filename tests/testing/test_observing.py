from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import lightbus
from helpers import Door
from lightbus import Api, BusPath, Event, EventMessage, LightbusTimeout, OnError
from lightbus.events.listening import delivery
from lightbus.testing import MemoryBus, memory_bus


class AuthApi(Api):
    user_registered = Event(["username"])
    user_greeted = Event(["username"])

    class Meta:
        name = "auth"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBus]:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def auth(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    return bus


def test_an_event_is_waited_for(hub: MemoryBus, auth: BusPath, door: Door) -> None:
    """By its path or its name, the first one or a later one, also when it was fired before."""
    hub.start(auth)
    door.fire(auth.auth.user_registered, username="sally")
    door.fire_many(auth.auth.user_registered, [{"username": "harry"}])
    assert hub.wait_for_event(auth.auth.user_registered).kwargs == {"username": "sally"}
    second = asyncio.run(hub.wait_for_event_async("auth.user_registered", number=2))
    assert second.kwargs == {"username": "harry"}


def test_an_event_that_does_not_come(hub: MemoryBus, auth: BusPath) -> None:
    """The error lists the events that were fired."""
    hub.start(auth)
    auth.auth.user_greeted(username="sally")
    with pytest.raises(LightbusTimeout, match=r"fired 0 times, and not 1\. Fired: auth\.user_greeted"):
        hub.wait_for_event(auth.auth.user_registered, timeout=0.01)
    with pytest.raises(LightbusTimeout, match=r"auth\.x was fired 0 times"):
        asyncio.run(hub.wait_for_event_async("auth.x", timeout=0.01))


def test_all_is_handled(hub: MemoryBus, auth: BusPath, door: Door) -> None:
    """Events fired by handlers, and retries, are waited for, too."""
    greeted: list[str] = []

    def greet(message: EventMessage, username: str) -> None:
        if not message.redelivered:
            raise ValueError("once")
        auth.auth.user_greeted(username=username)

    auth.auth.user_registered.listen(greet, listener_name="greet", on_error=OnError.RETRY)
    auth.auth.user_greeted.listen(lambda message, username: greeted.append(username), listener_name="note")
    hub.start(auth)
    for name in ("sally", "harry"):
        door.fire(auth.auth.user_registered, username=name)
    hub.wait_until_handled(20)
    assert sorted(greeted) == ["harry", "sally"]
    asyncio.run(hub.wait_until_handled_async())


def test_unhandled_events(hub: MemoryBus, auth: BusPath) -> None:
    """The error names the listeners with events left."""

    def fail(message: EventMessage) -> None:
        raise ValueError("always")

    on_error = OnError.STOP_LISTENER
    auth.auth.user_registered.listen(fail, listener_name="greet", on_error=on_error)
    hub.start(auth)
    auth.auth.user_registered(username="sally")
    for wait in (hub.wait_until_handled, lambda timeout: asyncio.run(hub.wait_until_handled_async(timeout))):
        with pytest.raises(LightbusTimeout, match=r"auth-greet \(1 left\)"):
            wait(0.01)


def test_a_bus_that_does_not_observe() -> None:
    """The error says how to make one that does."""
    with memory_bus() as hub, pytest.raises(lightbus.UnsupportedUse, match=r"memory_bus\(observe=True\)"):
        hub.wait_for_event("auth.user_registered")
