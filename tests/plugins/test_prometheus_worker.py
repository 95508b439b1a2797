from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from helpers import wait_until
from lightbus import Api, BusPath, Event, LightbusWorkerError
from lightbus.plugins import prometheus_worker
from lightbus.plugins.prometheus import PrometheusPlugin
from lightbus.testing import MemoryBus, memory_bus

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"

    async def check_password(self, username: str) -> bool:
        return {"sally": True}[username]


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus(journal=True) as hub:
        yield hub


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def bus(hub: MemoryBus, registry: CollectorRegistry) -> BusPath:
    """Return a worker with a listener, and a peer."""
    bus = hub.create(service_name="auth", plugins=[PrometheusPlugin(registry=registry)])
    bus.client.register_api(AuthApi())
    bus.auth.user_registered.listen(lambda message: None, listener_name="greet")
    hub.start(bus, hub.create(service_name="other"))
    return bus


def test_served_call_is_in_its_histogram_once(bus: BusPath, registry: CollectorRegistry) -> None:
    """A served call is in its histogram, once; a failed one among the errors, too."""
    bus.auth.check_password(username="sally")
    with pytest.raises(LightbusWorkerError):
        bus.auth.check_password(username="harry")
    labels = {"api": "auth", "procedure": "check_password"}
    value = registry.get_sample_value
    assert value("lightbus_call_duration_seconds_count", labels) == 2
    assert value("lightbus_call_duration_seconds_bucket", {**labels, "le": "+Inf"}) == 2
    assert value("lightbus_call_errors_total", labels) == 1
    seconds = value("lightbus_call_duration_seconds_sum", labels)
    assert seconds is not None
    assert seconds > 0
    assert value("lightbus_calls_refused_total", {"reason": "busy"}) == 0
    assert value("lightbus_calls_limit") == bus.client.config.worker.rpc_concurrency


def test_published_and_handled_events_are_counted(bus: BusPath, registry: CollectorRegistry) -> None:
    """Published and handled events are counted; how far a group is and how full the journals are is asked."""
    for name in ("sally", "harry"):
        bus.auth.user_registered(username=name)
    value = registry.get_sample_value
    event = {"api": "auth", "event": "user_registered"}
    wait_until(lambda: value("lightbus_events_published_total", event) == 2)
    wait_until(lambda: value("lightbus_events_handled_total", {**event, "listener": "greet"}) == 2)
    wait_until(lambda: value("lightbus_group_lag_events", {"api": "auth", "group": "auth-greet"}) == 0)
    assert value("lightbus_listener_stopped", {"api": "auth", "listener": "greet"}) == 0
    wait_until(lambda: value("lightbus_journal_events") == 2)
    full = value("lightbus_journal_full_ratio")
    assert full is not None
    assert 0 < full < 0.01


def test_full_ratio_of_an_event_backend(registry: CollectorRegistry) -> None:
    """The ratio of a backend without limits is 0; the other metrics exist."""
    with memory_bus() as hub:
        bus = hub.create(service_name="auth", plugins=[PrometheusPlugin(registry=registry)])
        bus.client.register_api(AuthApi())
        hub.start(bus)
        bus.auth.user_registered(username="sally")
        wait_until(lambda: registry.get_sample_value("lightbus_journal_events") == 1)
        assert registry.get_sample_value("lightbus_journal_full_ratio") == 0


def test_peers_are_counted_by_state(bus: BusPath, registry: CollectorRegistry) -> None:
    """Others are counted by their state; oneself is not."""
    wait_until(lambda: registry.get_sample_value("lightbus_peers", {"state": "up"}) == 1)
    assert registry.get_sample_value("lightbus_peers", {"state": "suspect"}) == 0


def test_blocked_loop(bus: BusPath, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters are still exported; metrics that need the loop are missing, and `scrape_incomplete` is 1."""
    monkeypatch.setattr(prometheus_worker, "ANSWER_TIMEOUT", 0.01)
    worker = bus.client.worker
    assert worker is not None
    loop = worker.loop
    told: list[object] = []

    async def block() -> None:
        value = registry.get_sample_value
        told.extend(
            [value("lightbus_scrape_incomplete"), value("lightbus_calls_limit"), value("lightbus_journal_events")]
        )

    asyncio.run_coroutine_threadsafe(block(), loop).result(60)
    assert told == [1, bus.client.config.worker.rpc_concurrency, None]


def test_every_metric_is_documented(bus: BusPath, registry: CollectorRegistry) -> None:
    """The page has a row for each metric, with its kind and its labels, and no other."""
    bus.auth.check_password(username="sally")
    bus.auth.user_registered(username="sally")
    made = bus.client.made_events
    made.relay_blocking([made.make("auth", "user_registered", {"username": "harry"})])
    made.overtaken["auth"] += 1

    def families() -> dict[str, tuple[str, str]]:
        found = {}
        for family in registry.collect():
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, ", ".join(sorted(labels)))
        return found

    wait_until(lambda: families()["lightbus_event_handling_duration_seconds"][1])
    rows = re.findall(r"^\| `(lightbus_\w+)` \| (\w+) \| ([^|]*) \|", PAGE.read_text(), flags=re.MULTILINE)
    documented = {name: (kind, ", ".join(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows}
    assert documented == families()
