"""A bus of which one part has a given size, and the cost of a call or an event on it. `grown NAME SIZE`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import lightbus
from lightbus import Api, Event, Parameter

from .measure import CALL, EVENT, latencies, percentiles, tell

COUNT = 500
"""Calls, and events, that are timed."""

READY = 180.0


def make(procedures: int = 1, events: int = 1) -> Any:
    """Return a bus with an API with this many procedures and events."""

    async def check_password(self: Any, user: str, password: str) -> bool:
        return password == "secret"

    members: dict[str, Any] = {f"check_{number}": check_password for number in range(procedures)}
    parameters = [Parameter("user", str), Parameter("email", str)]
    members |= {f"registered_{number}": Event(parameters) for number in range(events)}
    api = type("GrownApi", (Api,), {**members, "Meta": type("Meta", (), {"name": "grown"})})
    bus: Any = lightbus.create(service_name="grown")
    bus.client.register_api(api())
    return bus


def call() -> float:
    """Return the median of blocking calls from this process, which does not serve them."""
    caller: Any = lightbus.create(service_name="grown-caller")
    caller.client.wait_for_apis("grown", timeout=READY)
    median = percentiles(latencies(lambda: caller.grown.check_0(**CALL), COUNT))["p50"]
    caller.client.close()
    return median


def procedures(size: int) -> float:
    """Make this many procedures."""
    bus = make(procedures=size)
    bus.client.start_in_background()
    median = call()
    bus.client.close()
    return median


def workers(size: int) -> float:
    """Make this many workers, each in a process."""
    started = [subprocess.Popen([sys.executable, "-m", "bench.grown", "serve", "0"]) for _ in range(size)]
    probe: Any = lightbus.create(service_name="grown-probe")
    end = time.monotonic() + READY
    probe.client.wait_for_apis("grown", timeout=READY)
    while len(probe.client.engine.snapshot.by_api["grown"]) < size and time.monotonic() < end:
        time.sleep(0.05)
    if len(probe.client.engine.snapshot.by_api["grown"]) < size:
        raise TimeoutError(f"not all of {size} workers are there after {READY:g} s")
    probe.client.close()
    median = call()
    for worker in started:
        worker.terminate()
        worker.wait()
    return median


def serve(size: int) -> float:
    """Be one of the workers, until it is stopped."""
    make().client.run_forever()
    return 0.0


def fire(bus: Any) -> float:
    """Return microseconds for one of the events that are fired from a loop, 100 under way, until all are handled."""
    handled = asyncio.Event()
    left = COUNT * 10 + 1  # the first one shows that it listens

    async def on_registered(event_message: Any, user: str, email: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            handled.set()

    async def one(count: int) -> None:
        for _ in range(count):
            await bus.grown.registered_0.fire_async(**EVENT)

    async def main() -> float:
        bus.grown.registered_0.listen(on_registered, listener_name="timed")
        await bus.client.start_worker()
        await bus.grown.registered_0.fire_async(**EVENT, bus_options={"wait_for": "ack", "timeout": READY})
        began = time.perf_counter()
        await asyncio.gather(*(one(COUNT // 10) for _ in range(100)))
        await asyncio.wait_for(handled.wait(), READY)
        taken = time.perf_counter() - began
        await bus.client.stop_worker()
        return taken / (COUNT * 10) * 1e6

    return asyncio.run(main())


def listeners(size: int) -> float:
    """Make this many listeners, of as many events."""
    bus = make(events=size)

    async def on_other(event_message: Any, user: str, email: str) -> None:
        """Never called."""

    for number in range(1, size):
        getattr(bus.grown, f"registered_{number}").listen(on_other, listener_name=f"other-{number}")
    return fire(bus)


def journal(size: int) -> float:
    """Put this many events into the journal."""
    bus = make(events=2)
    bus.client.start_in_background()
    bus.grown.registered_1.fire_many(EVENT for _ in range(size))
    median = percentiles(latencies(lambda: bus.grown.registered_0.fire(**EVENT), COUNT))["p50"]
    bus.client.close()
    return median


MEASUREMENTS = {each.__name__: each for each in (procedures, listeners, workers, journal, serve)}

if __name__ == "__main__":
    name, size = sys.argv[1:]
    tell({"us": MEASUREMENTS[name](int(size))})
