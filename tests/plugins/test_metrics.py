from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.plugins import metrics
from lightbus.plugins.metrics import MetricsApi, MetricsPlugin
from lightbus.testing import MemoryBus, bus_mocker, memory_bus

USERS = {"sally": True, "harry": False}
CALL = ["rpc_call_sent", "rpc_call_received", "rpc_response_sent", "rpc_response_received"]
EVENT = ["event_fired", "event_received", "event_processed"]


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"

    def check_password(self, username: str) -> bool:
        return USERS[username]

    async def check_later(self, username: str) -> bool:
        return USERS[username]


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus() as hub:
        yield hub


class Observer:
    """Listens to `internal.metrics`."""

    def __init__(self, hub: MemoryBus) -> None:
        self.messages: list[EventMessage] = []
        bus = hub.create(service_name="observer")
        bus.client.listen_for_event("internal.metrics", "*", self.heard, listener_name="all")
        hub.start(bus)

    def heard(self, message: EventMessage) -> None:
        self.messages.append(message)

    def wait_for(self, *names: str) -> dict[str, dict[str, Any]]:
        """Return what these carried, when exactly these have been heard."""
        wait_until(lambda: len(self.messages) >= len(names), what=f"{len(names)} metrics are heard")
        assert sorted(message.event_name for message in self.messages) == sorted(names)
        return {message.event_name: message.kwargs for message in self.messages}


@pytest.fixture
def observer(hub: MemoryBus) -> Observer:
    return Observer(hub)


@pytest.fixture
def worker(hub: MemoryBus, observer: Observer) -> BusPath:
    """Return a worker with the plugin, an API and a listener to it."""
    worker = hub.create(service_name="auth", process_name="one", plugins=[MetricsPlugin()])
    worker.client.register_api(AuthApi())
    worker.auth.user_registered.listen(lambda message: None, listener_name="greet")
    hub.start(worker)
    return worker


@pytest.fixture
def plugin() -> MetricsPlugin:
    return MetricsPlugin()


@pytest.fixture
def caller(hub: MemoryBus, plugin: MetricsPlugin) -> BusPath:
    """Return a client with the plugin, that is no worker."""
    return hub.create(service_name="web", process_name="two", plugins=[plugin])


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("procedure", ["check_password", "check_later"])
def test_call_is_reported(caller: BusPath, observer: Observer, door: Door, procedure: str) -> None:
    """Each step of a call fires a metric on its side: process, call, time, arguments and result."""
    before = time.time()
    assert door.call(getattr(caller.auth, procedure), username="sally") is True
    told = observer.wait_for(*CALL)
    for name, service, process in (
        ("rpc_call_sent", "web", "two"),
        ("rpc_call_received", "auth", "one"),
        ("rpc_response_sent", "auth", "one"),
        ("rpc_response_received", "web", "two"),
    ):
        kwargs = told[name]
        assert before <= kwargs["timestamp"] <= time.time()
        assert (kwargs["service_name"], kwargs["process_name"]) == (service, process)
        assert (kwargs["api_name"], kwargs["procedure_name"]) == ("auth", procedure)
        assert kwargs["id"]
    assert told["rpc_call_sent"]["kwargs"] == {"username": "sally"}
    assert told["rpc_response_sent"]["result"] is True
    assert told["rpc_response_sent"]["error"] == told["rpc_response_received"]["error"] == ""
    assert told["rpc_call_sent"]["id"] == told["rpc_response_received"]["id"]
    assert told["rpc_call_received"]["id"] == told["rpc_response_sent"]["id"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("procedure", ["check_password", "check_later"])
def test_failed_call_is_reported(caller: BusPath, observer: Observer, door: Door, procedure: str) -> None:
    """A failed call fires all metrics, with the class of the exception on both sides."""
    with pytest.raises(lightbus.LightbusWorkerError, match="nobody"):
        door.call(getattr(caller.auth, procedure), username="nobody")
    told = observer.wait_for(*CALL)
    assert (told["rpc_response_sent"]["error"], told["rpc_response_sent"]["result"]) == ("KeyError", "'nobody'")
    assert told["rpc_response_received"]["error"] == "LightbusWorkerError"


@pytest.mark.usefixtures("worker")
def test_event_is_reported(caller: BusPath, observer: Observer, door: Door) -> None:
    """Firing, arrival at a listener and the end of handling fire metrics, under the event's id."""
    fired = door.fire(caller.auth.user_registered, username="sally")
    told = observer.wait_for(*EVENT)
    assert {name: kwargs["service_name"] for name, kwargs in told.items()} == {
        "event_fired": "web",
        "event_received": "auth",
        "event_processed": "auth",
    }
    for kwargs in told.values():
        assert (kwargs["event_id"], kwargs["kwargs"]) == (fired.id, {"username": "sally"})
        assert (kwargs["api_name"], kwargs["event_name"]) == ("auth", "user_registered")


def test_own_calls_and_events_of_a_worker_are_reported(worker: BusPath, observer: Observer) -> None:
    """A worker that calls and fires reports both sides of it."""
    worker.auth.check_password(username="sally")
    worker.auth.user_registered(username="sally")
    observer.wait_for(*CALL, *EVENT)


def test_metrics_are_not_measured(hub: MemoryBus, worker: BusPath, observer: Observer) -> None:
    """A listener to metrics in a process with the plugin causes no loop, and internal calls are left out."""
    heard: list[EventMessage] = []
    watcher = hub.create(plugins=[MetricsPlugin()])
    watcher.client.listen_for_event("internal.metrics", "*", lambda message: heard.append(message), listener_name="w")
    hub.start(watcher)
    watcher.internal.peer.ping(bus_options={"peer": worker.client.engine.identity.instance})
    worker.auth.check_password(username="sally")
    worker.auth.check_password(username="harry")
    observer.wait_for(*CALL, *CALL)
    wait_until(lambda: len(heard) >= 8)
    assert sorted(message.event_name for message in heard) == sorted([*CALL, *CALL])


def test_calls_of_many_threads_are_reported(
    hub: MemoryBus, worker: BusPath, observer: Observer, caller: BusPath
) -> None:
    """No metric gets lost between the threads that record and the loop that fires."""

    def call() -> None:
        for _ in range(20):
            caller.auth.check_later(username="sally")

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observer.wait_for(*CALL * 80)


def test_metrics_without_a_receiver(hub: MemoryBus, caller: BusPath, plugin: MetricsPlugin, door: Door) -> None:
    """If no worker has the plugin, calls work, and a client's metrics are dropped and counted."""
    auth = hub.create()
    auth.client.register_api(AuthApi())
    hub.start(auth)
    assert door.call(caller.auth.check_password, username="sally") is True
    wait_until(lambda: plugin.dropped == 2)


def test_unsendable_metrics_are_dropped(worker: BusPath, observer: Observer, caller: BusPath, plugin: Any) -> None:
    """A call with unsendable arguments fails; its metric is dropped, later ones are fired."""
    with pytest.raises(lightbus.DeformError, match="check_password"):
        caller.auth.check_password.call(username=object())
    assert observer.wait_for("rpc_response_received")["rpc_response_received"]["error"] == "DeformError"
    assert plugin.dropped == 1
    caller.auth.check_password(username="sally")
    observer.wait_for("rpc_response_received", *CALL)


def test_full_queue_drops(caller: BusPath, plugin: MetricsPlugin, worker: BusPath, observer: Observer) -> None:
    """Metrics that come faster than they can be fired are dropped beyond a bound; no call waits for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "MAX_QUEUED", 0)
        caller.auth.check_password(username="sally")
        wait_until(lambda: plugin.dropped == 2)


def test_refusing_hook_harms_no_call(worker: BusPath, caller: BusPath, plugin: MetricsPlugin) -> None:
    """A user's hook that fails on a metric drops the metric; the call succeeds."""

    def refuse(event_message: EventMessage) -> None:
        raise ValueError("no metrics today")

    caller.client.before_event_sent(refuse)
    assert caller.auth.check_password(username="sally") is True
    wait_until(lambda: plugin.dropped == 2)


def test_mocked_bus_has_no_metrics(caller: BusPath, plugin: MetricsPlugin, worker: BusPath) -> None:
    """On a mocked bus the plugin fires nothing: a test sees the program's own events only."""
    caller.auth.check_password(username="sally")  # by now the plugin is loaded
    with bus_mocker(caller) as mock:
        mock.mock_rpc_call("auth.check_password", result=False)
        caller.auth.check_password(username="sally")
        assert mock.event_names_fired == []
    assert plugin.dropped == 2


def test_last_metrics_of_a_worker_are_fired(hub: MemoryBus, observer: Observer) -> None:
    """Metrics queued while a worker finishes are fired before it leaves."""

    async def main() -> None:
        plugin = MetricsPlugin()
        bus = hub.create(plugins=[plugin])
        bus.client.register_api(AuthApi())
        await hub.start_async(bus)
        message = EventMessage(api_name="auth", event_name="user_registered", id="e-1", kwargs={"username": "sally"})
        await plugin.after_event_sent(event_message=message, client=bus.client)
        await plugin.on_stop(client=bus.client)
        await bus.client.close_async()

    asyncio.run(main())
    assert observer.wait_for("event_fired")["event_fired"]["event_id"] == "e-1"


def test_events_are_best_effort() -> None:
    """The events are useless later, so they are not stored; the API is internal."""
    api = MetricsApi()
    assert {name: event.delivery for name, event in api.events.items()} == dict.fromkeys([*CALL, *EVENT], "best_effort")
    assert api.meta.internal


def test_enabled_by_configuration(hub: MemoryBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plugins.internal_metrics.enabled` loads it, in a client that is no worker, too."""
    info = tmp_path / "plugins_of_this_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins-of-this-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[lightbus_plugins]\ninternal_metrics = lightbus.plugins.metrics:MetricsPlugin\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    client = hub.create({"plugins": {"internal_metrics": {"enabled": True}}}).client
    assert not client.hooks.has("before_rpc_call")
    assert client.service_name
    assert client.hooks.has("before_rpc_call")


def test_not_enabled_costs_nothing(hub: MemoryBus) -> None:
    """Without the plugin no hook is asked."""
    bus = hub.create()
    bus.client.register_api(AuthApi())
    hub.start(bus)
    assert not any(bus.client.hooks.has(name) for name in ("before_rpc_call", "after_event_sent"))
