from __future__ import annotations

import asyncio
import os
import queue
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import MS
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.config import Config
from lightbus.exceptions import InvalidConfiguration
from lightbus.plugins import state
from lightbus.plugins.metrics import MetricsPlugin
from lightbus.plugins.state import StateApi, StatePlugin
from lightbus.testing import MemoryBus, memory_bus

Heard = queue.Queue[EventMessage]


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough here for `hub.start` to have everybody listen: it takes milliseconds, on a busy machine some hundred.
    monkeypatch.setattr(state, "SETTLE_TIME", 1000 * MS)


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announce the plugin as an installed distribution does."""
    info = tmp_path / "plugins_of_this_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins-of-this-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lightbus_plugins]\ninternal_state = lightbus.plugins.state:StatePlugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def heard(hub: MemoryBus) -> Heard:
    """Return the events of `internal.state` that an observer gets, by their present names."""
    heard: Heard = queue.Queue()
    observer = hub.create(service_name="observer")
    events = [("internal.state", name) for name in ("server_started", "server_ping", "server_stopped")]
    observer.client.listen_for_events(events, lambda message: heard.put(message), listener_name="all")
    hub.start(observer)
    return heard


def worker(hub: MemoryBus, **options: Any) -> BusPath:
    """Return a bus with an API, a listener and the plugin."""
    bus = hub.create(service_name="auth", process_name="one", plugins=[StatePlugin(**options)])
    bus.client.register_api(AuthApi())
    bus.auth.user_registered.listen(lambda message: None, listener_name="greet")
    return bus


def test_start_pings_and_stop_are_reported(hub: MemoryBus, heard: Heard) -> None:
    """An observer gets the start, a ping at each interval, and the end of a worker, with its properties."""
    before = time.time()
    bus = worker(hub, ping_interval=0.05)
    hub.start(bus)
    messages = [heard.get(timeout=60) for _ in range(3)]
    bus.client.close()
    while (last := heard.get(timeout=60)).event_name == "server_ping":
        pass
    assert [message.event_name for message in messages] == ["server_started", "server_ping", "server_ping"]
    for message in messages:
        assert before < message.kwargs.pop("timestamp") < time.time()
        assert message.kwargs == {
            "service_name": "auth",
            "process_name": "one",
            "metrics_enabled": False,
            "api_names": ["auth"],
            "listening_for": ["auth.user_registered"],
            "ping_interval": 0.05,
        }
    assert last.event_name == "server_stopped"
    assert last.kwargs.pop("timestamp") > before
    assert last.kwargs == {"service_name": "auth", "process_name": "one"}


def test_names_of_1_x(hub: MemoryBus) -> None:
    """Each event is fired under its name in Lightbus 1.x, too, with the fields of that version."""
    heard: Heard = queue.Queue()
    observer = hub.create(service_name="observer")
    events = [("internal.state", name) for name in ("worker_started", "worker_ping", "worker_stopped")]
    observer.client.listen_for_events(events, lambda message: heard.put(message), listener_name="all")
    hub.start(observer)
    bus = worker(hub, ping_interval=20 * MS)
    hub.start(bus)
    started, ping = heard.get(timeout=60), heard.get(timeout=60)
    bus.client.close()
    assert (started.event_name, ping.event_name) == ("worker_started", "worker_ping")
    assert started.kwargs["service_name"] == "auth"
    assert (started.kwargs["pid"], started.kwargs["ping_enabled"]) == (os.getpid(), True)
    assert 1 < started.kwargs["max_memory_use"] < 100_000
    while (last := heard.get(timeout=60)).event_name == "worker_ping":
        pass
    assert last.event_name == "worker_stopped"


def test_host_whose_name_is_no_text(hub: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host name in the events can be sent, even if the system's name is invalid text."""
    monkeypatch.setattr(socket, "gethostname", lambda: os.fsdecode(b"b\xfcro"))
    heard: Heard = queue.Queue()
    observer = hub.create(service_name="observer")
    observer.client.listen_for_events(
        [("internal.state", name) for name in ("worker_started", "worker_ping")],
        lambda message: heard.put(message),
        listener_name="all",
    )
    hub.start(observer)
    hub.start(worker(hub, ping_interval=0.05))  # on a busy machine the start may be told before anybody listens
    assert heard.get(timeout=60).kwargs["hostname"] == "b-ro"


def test_only_start_and_end_are_reported_without_pings(
    hub: MemoryBus, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `ping_enabled=False` only start and end are fired."""
    monkeypatch.setattr(state, "SETTLE_TIME", 1.0)  # events of best effort: the observer must have found the worker
    bus = worker(hub, ping_enabled=False, ping_interval=0.001)
    hub.start(bus)
    assert heard.get(timeout=60).event_name == "server_started"
    bus.client.close()
    assert heard.get(timeout=60).event_name == "server_stopped"
    assert heard.empty()


def test_metrics_are_reported(hub: MemoryBus, heard: Heard) -> None:
    """Whether a worker has the metrics plugin is part of its state."""
    bus = hub.create(plugins=[StatePlugin(ping_interval=0.05), MetricsPlugin()])
    hub.start(bus)
    assert heard.get(timeout=60).kwargs["metrics_enabled"] is True


def test_worker_on_the_callers_loop_stops_before_the_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker stops at once, only the end is fired, and nothing is left running."""
    monkeypatch.setattr(state, "SETTLE_TIME", 600.0)
    fired: list[str] = []

    async def main() -> None:
        async with memory_bus() as hub:
            bus = worker(hub)
            bus.client.after_event_sent(lambda event_message: fired.append(event_message.canonical_name))
            await hub.start_async(bus)
            await bus.client.stop_worker()
            await hub.start_async(bus)

    asyncio.run(main())
    assert fired == ["internal.state.server_stopped", "internal.state.worker_stopped"] * 2


def test_failure_harms_no_worker(hub: MemoryBus, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that refuses the plugin's events is logged; the worker serves on, and ends well."""
    bus = worker(hub, ping_interval=0.01)

    def refuse(event_message: EventMessage) -> None:
        raise ValueError("no state today")

    bus.client.before_event_sent(refuse)
    hub.start(bus)
    bus.client.wait_for_apis("auth")
    bus.client.close()
    assert bus.client.exit_code == 0
    assert "internal.state.server_stopped was not fired: no state today" in caplog.text


def test_events_are_best_effort() -> None:
    """The events are useless later, so they are not stored; the API is internal."""
    api = StateApi()
    assert {name: event.delivery for name, event in api.events.items()} == dict.fromkeys(
        [f"{who}_{what}" for who in ("server", "worker") for what in ("started", "ping", "stopped")], "best_effort"
    )
    assert api.meta.internal


def test_settings_come_from_the_configuration() -> None:
    """The plugin takes its settings from the configuration, checked."""
    config = Config.model_validate({"plugins": {"internal_state": {"enabled": True}}})
    plugin = StatePlugin.from_config(config=config, **StatePlugin.Config(ping_interval=5).model_dump())
    assert (plugin.ping_enabled, plugin.ping_interval) == (True, 5.0)


@pytest.mark.usefixtures("entry_points")
def test_enabled_by_configuration(hub: MemoryBus) -> None:
    """`plugins.internal_state.enabled` loads it, and a wrong setting is named."""
    bus = hub.create({"plugins": {"internal_state": {"enabled": True, "ping_interval": 5}}})
    hub.start(bus)
    assert "internal.state" in bus.client.api_registry.names()
    wrong = hub.create({"plugins": {"internal_state": {"enabled": True, "ping_interval": 0}}})
    for _ in range(2):  # a bus whose plugins cannot be made is not used without them
        with pytest.raises(InvalidConfiguration, match=r"plugins\.internal_state\.ping_interval"):
            wrong.client.wait_for_apis("internal.state")


def test_not_enabled_is_not_there(hub: MemoryBus) -> None:
    """Without the plugin there is no such API."""
    bus = hub.create()
    hub.start(bus)
    with pytest.raises(lightbus.UnknownApi):
        hub.create().internal.state.server_ping.fire()
