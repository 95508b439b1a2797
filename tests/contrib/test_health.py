"""What the health route of a web process answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import wait_until
from helpers.clients import AuthApi
from lightbus import BusPath, OnError
from lightbus.contrib import health
from lightbus.contrib.health import BusHealth, bus_health, bus_health_async
from lightbus.testing import MemoryBus, memory_bus


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory."""
    with memory_bus() as hub:
        yield hub


@pytest.fixture(params=["sync", "async"])
def look(request: pytest.FixtureRequest) -> Any:
    """Return what looks, from a plain thread and on an event loop."""
    if request.param == "sync":
        return bus_health
    return lambda bus, needs=(): asyncio.run(bus_health_async(bus, needs))


def auth(hub: MemoryBus) -> BusPath:
    """Return a bus with an API, whose worker does not run."""
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    return bus


def test_answer_of_a_route() -> None:
    """All is well without a reason against it; else it is 503, with the reasons."""
    assert (BusHealth([]).status, BusHealth([]).body) == (200, {"ready": True, "reasons": []})
    bad = BusHealth(["nobody serves shop"])
    assert (bad.is_ready, bad.status, bad.body["reasons"]) == (False, 503, ["nobody serves shop"])


def test_apis_that_are_needed(hub: MemoryBus, look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker here only the needed APIs matter."""
    monkeypatch.setattr(health, "APIS_TIMEOUT", 60.0)
    hub.start(auth(hub))
    website = hub.create(service_name="website")
    assert look(website).is_ready
    assert look(website, ["auth"]).is_ready
    monkeypatch.setattr(health, "APIS_TIMEOUT", 0.0)
    [reason] = look(website, ["auth", "shop"]).reasons
    assert "shop" in reason


def test_own_worker_is_healthy_only_while_it_runs(hub: MemoryBus, look: Any) -> None:
    """The worker in this process is well; not while it starts, or stops."""
    bus = auth(hub)
    hub.start(bus)
    assert look(bus).is_ready
    worker: Any = bus.client.worker
    stopping, worker.stopping = worker.stopping, SimpleNamespace(is_set=lambda: True)
    assert look(bus).reasons == ["The worker in this process is stopping."]
    worker.stopping = stopping
    parts, worker.parts = worker.parts, None
    assert look(bus).reasons == ["The worker in this process is starting."]
    worker.parts = parts


def test_listener_that_has_stopped(hub: MemoryBus, look: Any) -> None:
    """A stopped listener is a reason: its events wait."""
    bus = auth(hub)

    def greet(message: Any, username: str) -> None:
        raise ValueError("no luck")

    bus.auth.user_registered.listen(greet, on_error=OnError.STOP_LISTENER, max_deliveries=1)
    hub.start(bus)
    bus.auth.user_registered.fire(username="ada")
    wait_until(lambda: not look(bus).is_ready)
    [reason] = look(bus).reasons
    assert "greet" in reason
    assert "has stopped, since its handler failed: ValueError: no luck" in reason


def test_loop_that_is_blocked(hub: MemoryBus) -> None:
    """The reason says for how long; a check on that loop itself shows that it is running."""
    bus = auth(hub)
    hub.start(bus)
    worker: Any = bus.client.worker
    watchdog, worker.watchdog = worker.watchdog, SimpleNamespace(silence=12.3)
    try:
        assert bus_health(bus).reasons == ["The event loop of the worker has been blocked for 12.3 s."]
        on_its_loop = asyncio.run_coroutine_threadsafe(bus_health_async(bus), worker.loop)
        assert on_its_loop.result(60).is_ready
    finally:
        worker.watchdog = watchdog
