"""A worker's life inside a program."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until, wait_until_async
from lightbus import BusPath, Feature, LightbusServerMustStartInMainThread, UnknownApi, UnsupportedUse


def test_worker_beside_other_tasks(caller: BusPath, bus: BusPath) -> None:
    """A worker shares a loop with a program, stops when asked, and can be started again."""

    async def main() -> None:
        for _ in range(2):
            await bus.client.start_worker()
            beside = asyncio.create_task(asyncio.sleep(0.05, "done"))
            assert await caller.auth.check_password.call_async(username="sally", password="secret") is True
            assert await bus.auth.check_password.call_async(username="sally", password="wrong") is False
            assert await beside == "done"
            await bus.client.stop_worker()
            assert await bus.client.stop_worker() is None
            await wait_until_async(lambda: "auth" not in caller.client.engine.snapshot.by_api)
        with pytest.raises(UnknownApi):
            await caller.auth.check_password.call_async(username="sally", password="secret")

    asyncio.run(main())


def test_worker_that_runs_already(served: BusPath) -> None:
    """A second worker of the same bus is refused, whichever way it is started."""
    with pytest.raises(UnsupportedUse, match="has a running worker already"):
        served.client.start_in_background()
    with pytest.raises(UnsupportedUse, match="has a running worker already"):
        asyncio.run(served.client.start_worker())


def test_worker_that_cannot_start(bus: BusPath, door: Door) -> None:
    """A start hook that fails ends the start with its exception, and the bus can be used again."""
    fails = [True]

    @bus.client.on_start
    def on_start() -> None:
        if fails:
            raise ValueError("not ready")

    with pytest.raises(ValueError, match="not ready"):
        asyncio.run(bus.client.start_worker())
    with pytest.raises(ValueError, match="not ready"):
        bus.client.start_in_background()
    fails.clear()
    bus.client.start_in_background()
    assert door.call(bus.auth.check_password, username="sally", password="secret") is True


def test_run_forever_wants_the_main_thread(bus: BusPath) -> None:
    """Signals reach the main thread only; the message names what works elsewhere."""
    with ThreadPoolExecutor(1) as thread, pytest.raises(LightbusServerMustStartInMainThread, match="start_in_backgr"):
        thread.submit(bus.client.run_forever).result()


def test_worker_stops_on_request_and_can_start_again(served: BusPath) -> None:
    """Any code may ask the worker to stop; it can be started again."""
    served.client.request_shutdown()
    wait_until(lambda: not served.client.is_worker)
    served.client.request_shutdown()
    wait_until(lambda: not any(thread.name == "lightbus-worker" for thread in threading.enumerate()))
    served.client.start_in_background()
    assert served.auth.check_password(username="sally", password="secret") is True


def test_worker_does_only_what_its_features_say(bus: BusPath, caller: BusPath) -> None:
    """A worker does what its features say: without `rpcs` it serves no call, without `tasks` no clock."""
    ran: list[str] = []
    heard: list[str] = []
    bus.client.every(seconds=0.01)(lambda: ran.append("ran"))
    bus.auth.user_registered.listen(lambda message, username: heard.append(username), listener_name="hear")
    bus.client.set_features([Feature.EVENTS])
    bus.client.start_in_background()
    caller.auth.user_registered.fire(username="sally")
    wait_until(lambda: heard == ["sally"])
    assert not ran
    with pytest.raises(lightbus.NotReachable):
        caller.auth.check_password(username="sally", password="secret")


def test_worker_starts_while_a_process_begins_to_publish(
    served: BusPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the worker publishes what this process fires, and nothing is wrong."""
    lifecycle, worker = served.client._lifecycle, served.client.worker
    thread, lifecycle.thread = lifecycle.thread, None
    lifecycle._workers.worker = None  # as if it had not been there yet
    begin = lifecycle._start_publisher

    async def begin_too_late() -> Any:
        lifecycle._workers.worker = worker
        return await begin()

    monkeypatch.setattr(lifecycle, "_start_publisher", begin_too_late)
    try:
        lifecycle.start_publishing()
    finally:
        lifecycle.thread, lifecycle._workers.worker = thread, worker
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_features_rpcs_only(bus: BusPath, caller: BusPath) -> None:
    """A worker without `events` runs no listener."""
    heard: list[str] = []
    bus.auth.user_registered.listen(lambda message, username: heard.append(username), listener_name="hear")
    bus.client.set_features(["rpcs"])
    bus.client.start_in_background()
    caller.auth.user_registered.fire(username="sally")
    assert caller.auth.check_password(username="sally", password="secret") is True
    assert not heard
    assert bus.client.features == (Feature.RPCS,)


def test_consume_rpcs_serves_until_stopped(bus: BusPath, caller: BusPath) -> None:
    """`consume_rpcs` of 1.x serves calls until it is stopped."""

    async def main() -> None:
        serving = asyncio.create_task(bus.client.consume_rpcs())
        await caller.client.wait_for_apis_async("auth")
        assert await caller.auth.check_password.call_async(username="sally", password="secret") is True
        bus.client.request_shutdown()
        await serving

    asyncio.run(main())
