from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

import lightbus
from helpers import Door, wait_until
from helpers.http import ask
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.exceptions import (
    InvalidConfiguration,
    LightbusTimeout,
    LightbusWorkerError,
    PeerBusy,
    PeerLost,
    PeerUnreachable,
    UnknownApi,
)
from lightbus.plugins import register_plugin
from lightbus.plugins.prometheus import PrometheusPlugin, outcome_of
from lightbus.testing import MemoryBus, memory_bus


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"

    def check_password(self, username: str) -> bool:
        return {"sally": True}[username]


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def made(hub: MemoryBus, plugin: PrometheusPlugin) -> BusPath:
    """Return a bus with the plugin, an API and a listener."""
    bus = hub.create(service_name="auth", plugins=[plugin])
    bus.client.register_api(AuthApi())

    def greet(message: EventMessage, username: str) -> None:
        if username == "nobody":
            raise ValueError(username)

    on_error = lightbus.OnError.ACKNOWLEDGE_AND_LOG
    bus.auth.user_registered.listen(greet, listener_name="greet", on_error=on_error)
    return bus


def test_what_a_caller_sees(hub: MemoryBus, registry: CollectorRegistry, door: Door) -> None:
    """Calls are counted by what became of them, and measured; events by their firing, and how long they take."""
    bus = made(hub, PrometheusPlugin(registry=registry))
    hub.start(bus)
    door.call(bus.auth.check_password, username="sally")
    with pytest.raises(LightbusWorkerError):
        door.call(bus.auth.check_password, username="harry")
    for name in ("sally", "nobody"):
        door.fire(bus.auth.user_registered, username=name)
    call = {"api": "auth", "procedure": "check_password"}
    value = registry.get_sample_value
    for outcome in ("ok", "handler_error"):
        assert value("lightbus_client_calls_total", {**call, "outcome": outcome}) == 1
    assert value("lightbus_client_call_duration_seconds_count", call) == 2
    event = {"api": "auth", "event": "user_registered"}
    assert value("lightbus_client_events_fired_total", {**event, "outcome": "ok"}) == 2
    handled = {**event, "listener": "greet"}
    wait_until(lambda: value("lightbus_event_handling_duration_seconds_count", handled) == 2)


def test_events_of_an_outbox(hub: MemoryBus, registry: CollectorRegistry) -> None:
    """One that is stored may be rolled back, so it counts when it is relayed; one that cannot be stored is an error."""
    bus = made(hub, PrometheusPlugin(registry=registry))
    hub.start(bus)
    events = bus.client.made_events
    rolled_back, committed = [events.make("auth", "user_registered", {"username": "sally"}) for _ in range(2)]
    for message in (rolled_back, committed):
        with events.storing(message):
            pass
    with pytest.raises(OSError, match="no room"), events.storing(rolled_back):
        raise OSError("no room")
    events.relay_blocking([committed])
    event, value = {"api": "auth", "event": "user_registered"}, registry.get_sample_value
    assert value("lightbus_client_events_fired_total", {**event, "outcome": "ok"}) is None
    assert value("lightbus_client_events_fired_total", {**event, "outcome": "error"}) == 1
    assert value("lightbus_outbox_events_relayed_total", event) == 1
    events.overtaken["auth"] += 1
    assert value("lightbus_outbox_overtaken_total", {"api": "auth"}) == 1
    assert value("lightbus_events_published_total", event) == 1


def test_metrics_are_served_while_a_worker_runs(hub: MemoryBus, registry: CollectorRegistry) -> None:
    """With a port, `/metrics` is served from the worker's start to its end."""
    plugin = PrometheusPlugin(registry=registry, port=0)
    bus = made(hub, plugin)
    hub.start(bus)
    server = plugin.server
    assert server is not None
    status, text = ask(f"{server.url}/metrics")
    assert status == 200
    assert 'lightbus_worker_info{bus="memory-' in text
    bus.client.close()
    assert plugin.server is None
    assert "lightbus_worker_info" not in plugin.page().body.decode()


def test_several_buses_of_a_process_share_a_registry(hub: MemoryBus, registry: CollectorRegistry) -> None:
    """Client metrics are summed; worker metrics are of the worker started last."""
    buses = [hub.create(plugins=[PrometheusPlugin(registry=registry)]) for _ in range(2)]
    for bus in buses:
        bus.client.start_in_background()
    text = PrometheusPlugin(registry=registry).page().body.decode()
    assert text.count("lightbus_worker_info{") == 1
    assert f'service="{buses[1].client.service_name}"' in text


def test_several_plugins_of_a_bus_count_once(hub: MemoryBus, registry: CollectorRegistry, door: Door) -> None:
    """From the settings, an option and the program; each can serve."""
    bus = made(hub, PrometheusPlugin(registry=registry))
    register_plugin(bus.client.hooks, PrometheusPlugin(registry=registry, port=0))
    hub.start(bus)
    door.call(bus.auth.check_password, username="sally")
    door.fire(bus.auth.user_registered, username="sally")
    hub.wait_until_handled()
    value, event = registry.get_sample_value, {"api": "auth", "event": "user_registered"}
    call = {"api": "auth", "procedure": "check_password", "outcome": "ok"}
    assert value("lightbus_client_calls_total", call) == 1
    assert value("lightbus_client_events_fired_total", {**event, "outcome": "ok"}) == 1
    handled = {**event, "listener": "greet"}
    wait_until(lambda: value("lightbus_event_handling_duration_seconds_count", handled) == 1)


def test_settings_enable_it(hub: MemoryBus) -> None:
    """`plugins.prometheus` in the settings is all that it takes."""
    bus = hub.create({"plugins": {"prometheus": {"enabled": True, "port": 0}}})
    bus.client.start_in_background()
    assert bus.client.hooks.has("around_rpc_call")


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    for name in ("lightbus.plugins.prometheus", "lightbus.plugins.prometheus_worker"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InvalidConfiguration, match=r"pip install 'lightbus\[prometheus\]'"):
        __import__("lightbus.plugins.prometheus")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (LightbusWorkerError("x"), "handler_error"),
        (LightbusTimeout("x"), "timeout"),
        (PeerBusy("x"), "busy"),
        (PeerUnreachable("x"), "unreachable"),
        (UnknownApi("x"), "unreachable"),
        (PeerLost("x"), "lost"),
        (ValueError("x"), "error"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
def test_outcomes_are_few_label_values(error: BaseException | None, outcome: str) -> None:
    """Any exception gives one of a few label values."""
    assert outcome_of(error) == outcome
