"""Schedules and background tasks of a worker."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
import schedule

from helpers import wait_until
from lightbus import BusPath, InvalidSchedule
from lightbus.testing import memory_bus


def test_schedules_and_background_tasks(bus: BusPath) -> None:
    """A worker runs schedules, sync or async, and background tasks; all of them end with it."""
    ran: list[str] = []

    @bus.client.every(seconds=0.05)
    def often() -> None:
        assert threading.current_thread().name.startswith("lightbus-handler")
        ran.append("often")

    @bus.client.every(hours=1, also_run_immediately=True)
    async def at_once() -> None:
        ran.append("at once")

    @bus.client.schedule(schedule.every().hour, also_run_immediately=True)
    def scheduled() -> None:
        ran.append("scheduled")

    @bus.client.schedule(schedule.every(1).seconds)
    async def soon() -> None:
        ran.append("soon")

    async def beside() -> None:
        try:
            ran.append("beside")
            await asyncio.Event().wait()
        finally:
            ran.append("beside ended")

    bus.client.add_background_task(beside())
    bus.client.start_in_background()
    wait_until(lambda: ran.count("often") >= 3 and {"at once", "scheduled", "soon", "beside"} <= {*ran})
    assert ran.count("at once") == ran.count("scheduled") == ran.count("beside") == 1
    assert callable(often)
    bus.client.close()
    assert ran[-1] == "beside ended"
    assert not any(thread.name == "lightbus-worker" for thread in threading.enumerate()), "it could run the schedules"


def test_wrong_interval_is_refused_at_once(bus: BusPath) -> None:
    """No interval, a negative one, or no job of the schedule library is refused at once."""
    with pytest.raises(InvalidSchedule, match=r"as every\(minutes=5\)"):
        bus.client.every()
    with pytest.raises(InvalidSchedule):
        bus.client.every(seconds=-1)
    with pytest.raises(InvalidSchedule, match="was given seconds=inf"):
        bus.client.every(seconds=float("inf"))
    with pytest.raises(InvalidSchedule, match=r"was given 5 by position, but takes .* by name: .*seconds=, minutes="):
        bus.client.every(5)  # type: ignore[misc]
    with pytest.raises(InvalidSchedule, match="needs a job of the schedule library"):
        bus.client.schedule(5)(print)  # type: ignore[arg-type]


def test_failing_schedule_continues(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a scheduled function is logged, and it runs again at its next time."""
    runs: list[int] = []

    @bus.client.every(seconds=0.02)
    def fails() -> None:
        runs.append(1)
        raise ValueError("this time")

    bus.client.start_in_background()
    wait_until(lambda: len(runs) >= 3)
    assert any("fails" in record.getMessage() and record.exc_info for record in caplog.records)


def test_failing_background_task_stops_the_worker(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """A background task that fails stops the worker, with exit code 1: it cannot serve fully without the task."""

    async def fails() -> None:
        raise ValueError("no half worker")

    bus.client.add_background_task(fails())

    bus.client.start_in_background()
    wait_until(lambda: not bus.client.is_worker)
    assert bus.client.exit_code == 1
    assert "A background task failed; the worker stops, since it cannot serve fully without it" in caplog.messages


def test_once_per_service() -> None:
    """Of three workers one runs it; when that one stops, another one does. A worker of another service has its own."""
    ran: Counter[str] = Counter()

    def worker(name: str, service: str = "shop") -> BusPath:
        bus = hub.create(service_name=service, process_name=name)

        @bus.client.every(seconds=0.05, once_per_service=True)
        async def tidy() -> None:
            ran[name] += 1

        hub.start(bus)
        return bus

    with memory_bus() as hub:
        buses = {name: worker(name) for name in ("a", "b", "c")}
        worker("other", "bank")
        wait_until(lambda: all(counts_of(each)["left"] or counts_of(each)["ran"] for each in buses.values()))
        ran.clear()
        wait_until(lambda: ran.total() >= 20 and ran["other"] > 3)
        busy = max(buses, key=lambda name: ran[name])
        stats = {name: counts_of(each) for name, each in buses.items()}
        assert all(each["left"] for name, each in stats.items() if name != busy)
        buses.pop(busy).client.close()
        ran.clear()
        wait_until(lambda: ran["a"] + ran["b"] + ran["c"] > 3)
        assert ran[busy] == 0


def counts_of(bus: BusPath) -> dict[str, Any]:
    """Return a worker's counts of its only schedule."""
    me = bus.client.engine.identity.instance
    stats = bus.client.call_rpc_blocking("internal.peer", "stats", {}, {"peer": me})
    (found,) = stats["schedules"]
    assert found["name"].endswith("tidy/0.05")
    return dict(found)


def test_once_per_service_runs_at_the_start_too() -> None:
    """In the only worker that there is."""
    ran: list[str] = []
    with memory_bus() as hub:
        bus = hub.create(service_name="shop")
        bus.client.every(hours=1, also_run_immediately=True, once_per_service=True)(lambda: ran.append("once"))
        hub.start(bus)
        wait_until(lambda: ran == ["once"])
