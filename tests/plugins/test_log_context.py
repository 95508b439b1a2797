from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers import Door, wait_until
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.plugins.log_context import LogContextPlugin, add_log_fields, log_fields
from lightbus.testing import MemoryBus, memory_bus

found: list[dict[str, str]] = []


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"

    def check(self) -> None:
        found.append(log_fields())

    async def check_async(self) -> None:
        found.append(log_fields())


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    found.clear()
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth", plugins=[LogContextPlugin()])
    bus.client.register_api(AuthApi())
    return bus


@pytest.mark.parametrize("procedure", ["check", "check_async"])
def test_handler_logs_the_call_it_serves(hub: MemoryBus, bus: BusPath, door: Door, procedure: str) -> None:
    """A handler knows which call it serves; its caller, who serves none, knows of none."""
    hub.start(bus)
    door.call(getattr(bus.auth, procedure))
    assert {**found[0], "call_id": "x"} == {"api": "auth", "procedure": procedure, "call_id": "x"}
    assert log_fields() == {}


@pytest.mark.parametrize("is_async", [False, True])
def test_listener_logs_the_event_it_handles(hub: MemoryBus, bus: BusPath, is_async: bool) -> None:
    """A listener knows which event it handles, and for which group."""

    def hear(message: EventMessage) -> None:
        found.append(log_fields())

    async def hear_async(message: EventMessage) -> None:
        found.append(log_fields())

    bus.auth.user_registered.listen(hear_async if is_async else hear, listener_name="greet")
    bus.auth.user_registered.listen(hear, listener_name="each", group=None)
    hub.start(bus)
    message = bus.auth.user_registered(username="sally")
    wait_until(lambda: len(found) == 2)
    expected = {"api": "auth", "event": "user_registered", "event_id": message.id}
    groups = sorted(found, key=lambda fields: fields["listener"])
    assert groups == [{**expected, "listener": "each"}, {**expected, "listener": "greet", "group": "auth-greet"}]


def test_structlog_processor_adds_missing_fields_only(hub: MemoryBus, bus: BusPath) -> None:
    """It adds missing fields, and does not change `event`, which is the message."""
    records: list[dict[str, object]] = []

    def hear(message: EventMessage) -> None:
        records.append(dict(add_log_fields(None, "info", {"event": "heard", "api": "mine"})))

    bus.auth.user_registered.listen(hear, listener_name="greet")
    hub.start(bus)
    bus.auth.user_registered(username="sally")
    wait_until(lambda: len(records) == 1)
    assert (records[0]["event"], records[0]["event_name"], records[0]["api"]) == ("heard", "user_registered", "mine")
