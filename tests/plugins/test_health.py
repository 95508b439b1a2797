from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest

import lightbus
from helpers import wait_until
from helpers.http import ask
from lightbus import Api, BusPath, Event
from lightbus.plugins import health
from lightbus.plugins.health import HealthPlugin
from lightbus.testing import MemoryBus, memory_bus


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def plugin() -> HealthPlugin:
    return HealthPlugin(port=0)


@pytest.fixture
def bus(hub: MemoryBus, plugin: HealthPlugin) -> BusPath:
    bus = hub.create(service_name="auth", plugins=[plugin])
    bus.client.register_api(AuthApi())
    return bus


def url_of(plugin: HealthPlugin) -> str:
    assert plugin.server is not None
    return plugin.server.url


def test_life_of_a_worker(hub: MemoryBus, bus: BusPath, plugin: HealthPlugin) -> None:
    """Alive and not ready while it starts, ready while it serves, not ready while it stops; gone when it is."""
    told: dict[str, list[tuple[int, str]]] = {}

    def asked(when: str) -> None:
        url = url_of(plugin)
        told[when] = [ask(f"{url}/live"), ask(f"{url}/ready")]

    bus.client.on_start(lambda: asked("starting"))
    bus.client.on_stop(lambda: asked("stopping"))
    hub.start(bus)
    url = url_of(plugin)
    asked("serving")
    bus.client.close()
    assert [answers[0] for answers in told.values()] == [(200, "alive\n")] * 3
    found = {when: (answers[1][0], json.loads(answers[1][1])) for when, answers in told.items()}
    assert found["starting"][0] == found["stopping"][0] == 503
    assert found["starting"][1]["reasons"] == ["It is starting."]
    assert found["stopping"][1]["reasons"] == ["It is stopping."]
    assert found["serving"][0] == 200
    assert found["serving"][1]["ready"] is True
    assert found["serving"][1]["service"] == "auth"
    assert plugin.server is None
    with pytest.raises(OSError, match="refused"):
        ask(url)


@pytest.mark.long
def test_a_listener_that_has_stopped(hub: MemoryBus, bus: BusPath, plugin: HealthPlugin) -> None:
    """It is not ready, with listener and reason."""

    def fail(message: lightbus.EventMessage) -> None:
        raise ValueError("broken")

    on_error = lightbus.OnError.STOP_LISTENER
    bus.auth.user_registered.listen(fail, listener_name="greet", on_error=on_error)
    hub.start(bus)
    bus.auth.user_registered(username="sally")
    wait_until(lambda: ask(f"{url_of(plugin)}/ready")[0] == 503)
    [reason] = json.loads(ask(f"{url_of(plugin)}/ready")[1])["reasons"]
    assert "greet of auth.user_registered has stopped, since its handler failed: ValueError: broken" in reason


def test_blocked_loop(hub: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ready as soon as it does not answer, and not alive after `stalled_after`."""
    monkeypatch.setattr(health, "ANSWER_TIMEOUT", 0.05)
    plugin = HealthPlugin(port=0, stalled_after=1.0)
    bus = hub.create(service_name="auth", plugins=[plugin])
    hub.start(bus)
    worker = bus.client.worker
    assert worker is not None
    may_go = threading.Event()

    async def stand() -> None:
        may_go.wait(60)

    standing = asyncio.run_coroutine_threadsafe(stand(), worker.loop)
    wait_until(lambda: ask(f"{url_of(plugin)}/live")[0] == 503)
    assert "The event loop has been blocked for" in ask(f"{url_of(plugin)}/live")[1]
    status, text = ask(f"{url_of(plugin)}/ready")
    may_go.set()
    standing.result(60)
    assert status == 503
    assert "something blocks it" in text
    wait_until(lambda: ask(f"{url_of(plugin)}/live")[0] == 200)


def test_settings_enable_it(hub: MemoryBus) -> None:
    """`plugins.health` in the settings is all that it takes."""
    bus = hub.create({"plugins": {"health": {"enabled": True, "port": 0}}})
    bus.client.start_in_background()
    assert bus.client.hooks.has("after_worker_started")
