"""The bus's client: an ordinary program that knows no Api class. `bus_client MEASUREMENT COUNT [RUN SUBSCRIBERS]`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from functools import partial
from typing import Any

import lightbus
from lightbus.wire import envelope
from lightbus.wire.envelope import Hello

from .measure import CALL, EVENT, IN_FLIGHT, MIB, THREADS, WARM_UP, latencies, megabytes_resident, percentiles, tell

PATIENCE = 20.0
"""Seconds for the worker to come up, or for the subscribers to have subscribed."""

LONG = {"timeout": 120}
"""For procedures that run a whole measurement in the worker."""

PORTIONS = 10
"""Parts in which two things are measured in turn."""

OVERLOAD = 5
"""How many times as many calls are asked for as can be done."""

RECOVERED = 1.5
"""How many times as long as 99 of 100 calls took before an overload one may take that is said to be as before."""

bus: Any = lightbus.create(service_name="bench-client")


def hello(count: int) -> dict[str, float]:
    """Return when the worker answers, however late it was started."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            bus.auth.check_password(**CALL)
            return {}
        except lightbus.LightbusException:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def sync_async(count: int) -> dict[str, float]:
    """Measure blocking calls of an `async def` handler."""
    return percentiles(latencies(lambda: bus.auth.check_password(**CALL), count))


def sync_def(count: int) -> dict[str, float]:
    """Measure blocking calls of a `def` handler."""
    return percentiles(latencies(lambda: bus.auth.check_password_def(**CALL), count))


def async_one(count: int) -> dict[str, float]:
    """Measure awaited calls, one after another."""
    return percentiles(asyncio.run(_one_after_another(count)))


async def _one_after_another(count: int) -> list[float]:
    taken = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        await bus.auth.check_password.call_async(**CALL)
        taken.append(time.perf_counter() - began)
    return taken[WARM_UP:]


def in_flight(count: int) -> dict[str, float]:
    """Measure calls per second with always `IN_FLIGHT` in progress."""
    return {"per_s": asyncio.run(_with_many_in_flight(count))}


async def _with_many_in_flight(count: int) -> float:
    async def calls(number: int) -> None:
        for _ in range(number):
            await bus.auth.check_password.call_async(**CALL)

    await calls(WARM_UP)
    began = time.perf_counter()
    await asyncio.gather(*(calls(count // IN_FLIGHT) for _ in range(IN_FLIGHT)))
    return count // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - began)


def observing_off(count: int) -> dict[str, float]:
    """Measure the ratio of a call's duration with the observing plugins in the settings to that without them."""
    off = {"enabled": False}
    settings = {"plugins": {"internal_metrics": off, "opentelemetry": off, "prometheus": off}}
    observable: Any = lightbus.create(settings, service_name="bench-observable")
    taken: dict[Any, list[float]] = {bus: [], observable: []}
    for _ in range(PORTIONS):  # in turn, so that both have the same minute of the machine
        for each, all_of_it in taken.items():
            all_of_it += latencies(partial(each.auth.check_password, **CALL), count // PORTIONS)
    observable.client.close()
    bare, observed = (percentiles(all_of_it)["p50"] for all_of_it in taken.values())
    return {"ratio": observed / bare}


def threads(count: int) -> dict[str, float]:
    """Measure blocking calls per second from `THREADS` threads that share the bus."""
    share = count // THREADS
    start = threading.Barrier(THREADS + 1)

    def calls() -> None:
        bus.auth.check_password(**CALL)
        start.wait()
        for _ in range(share):
            bus.auth.check_password(**CALL)

    started = [threading.Thread(target=calls) for _ in range(THREADS)]
    for thread in started:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in started:
        thread.join()
    return {"per_s": share * THREADS / (time.perf_counter() - began)}


def events(count: int, run: str, subscribers: str) -> dict[str, float]:
    """Have the worker fire `count` events, once that many subscribers of this run have seen a probe."""
    end = time.monotonic() + PATIENCE
    while (seen := bus.auth.subscribers(run=run)) < int(subscribers):
        if time.monotonic() > end:
            raise TimeoutError(f"{seen} of {subscribers} subscribers have seen a probe after {PATIENCE:g} s")
        bus.auth.fire_many(user="probe", count=1)
        time.sleep(0.02)
    bus.auth.fire_many.call(user=EVENT["user"], count=count, bus_options=LONG)
    return {}


def kept(count: int, run: str, subscribers: str, in_flight: str) -> dict[str, float]:
    """
    Have the worker fire `count` events that are kept, once so many subscribers of this run follow it.

    Each has to hold partitions of its group by then: one that comes late would get none of the events.
    """
    end = time.monotonic() + PATIENCE
    while bus.auth.subscribers(run=run) < int(subscribers) or _holders(run) < int(subscribers):
        if time.monotonic() > end:
            raise TimeoutError(f"not all of {subscribers} subscribers follow after {PATIENCE:g} s")
        time.sleep(0.02)
    bus.auth.keep_many.call(user=run, count=count, in_flight=int(in_flight), bus_options=LONG)
    return {}


def _holders(run: str) -> int:
    """Return how many members of this run's groups hold partitions."""
    [peer] = bus.client.engine.snapshot.by_api["auth"]
    groups = bus.internal.events.groups.call(api="auth", bus_options={"peer": peer.instance})
    return sum(bool(held) for group in groups if run in group["name"] for held in group["members"].values())


def fire_handler(count: int) -> dict[str, float]:
    """Have a handler thread of the worker measure its own firing."""
    result: dict[str, float] = bus.auth.time_fires.call(count=count, event="user_registered", bus_options=LONG)
    return result


def fire_handler_kept(count: int) -> dict[str, float]:
    """Do the same with a stored event."""
    result: dict[str, float] = bus.auth.time_fires.call(count=count, event="user_kept", bus_options=LONG)
    return result


def fire_script(count: int) -> dict[str, float]:
    """Measure firing from this script, which hands off each event to the worker."""
    return percentiles(latencies(lambda: bus.auth.user_registered.fire(**EVENT), count))


def fire_script_kept(count: int) -> dict[str, float]:
    """Measure firing from this script, with events that the worker stores."""
    return percentiles(latencies(lambda: bus.auth.user_kept.fire(**EVENT), count))


def echo(count: int) -> dict[str, float]:
    """Measure megabytes per second in both directions, each counted once."""
    data = bytes(MIB)
    taken = latencies(lambda: bus.auth.echo(data=data), count)
    return {"per_s": MIB / 1e6 * count / sum(taken)}


def rss(count: int) -> dict[str, float]:
    """Return the memory after `count` calls."""
    for _ in range(count):
        bus.auth.check_password(**CALL)
    return {"rss_client": megabytes_resident()}


def crowd(count: int) -> dict[str, float]:
    """Connect `count` times at once; return the answers per second, and the worker's memory for each in kB."""
    bus.auth.check_password(**CALL)
    engine = bus.client.engine
    [peer] = engine.snapshot.by_api["auth"]
    pid = bus.internal.peer.info.call(bus_options={"peer": peer.instance})["pid"]
    me = engine.identity
    hellos = [
        envelope.encode(Hello(me.bus, peer.instance, f"{number:016x}", me.service, me.process, "", None))
        for number in range(count)
    ]
    before = megabytes_resident(pid)
    began = time.perf_counter()
    dealers = [
        engine.transport.blocking_dealer(peer.endpoint, fingerprint=peer.announcement.fingerprint) for _ in hellos
    ]
    for dealer, hello in zip(dealers, hellos, strict=True):
        while not dealer.send(hello):
            continue
    for dealer in dealers:
        while dealer.receive(1.0) is None:
            continue
    taken = time.perf_counter() - began
    figures = {"per_s": count / taken, "kb_each": (megabytes_resident(pid) - before) * 1000 / count}
    for dealer in dealers:
        dealer.close()
    return figures


def overload_async(count: int) -> dict[str, float]:
    """Make five times as many calls of a computing `async def` handler as it can execute."""
    return asyncio.run(_overload(bus.auth.compute, count))


def overload_def(count: int) -> dict[str, float]:
    """Do the same with a `def` handler."""
    return asyncio.run(_overload(bus.auth.compute_def, count))


async def _overload(procedure: Any, count: int) -> dict[str, float]:
    """
    Return how many times as long the 99th percentile of the calls that are accepted takes as without load: `ratio`.

    The calls are sent in step with the clock, whatever becomes of them. `accepted` is the part that was served, and
    `recovery` the milliseconds from the last of them to the end of the last call, one after another from then on,
    that is refused or takes longer than `RECOVERED` times the 99th percentile without load.
    """
    alone = await _timed(procedure)
    pause = sum(alone) / len(alone) / OVERLOAD
    taken: list[float] = []

    async def call() -> None:
        began = time.perf_counter()
        with contextlib.suppress(lightbus.LightbusException):
            await procedure.call_async()
            taken.append(time.perf_counter() - began)

    calls: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    while len(calls) < count:
        calls += [asyncio.create_task(call()) for _ in range(int((time.perf_counter() - began) / pause) - len(calls))]
        await asyncio.sleep(0.002)
    before = percentiles(alone)["p99"]
    recovery = await _recovery(procedure, before * RECOVERED)
    await asyncio.gather(*calls)
    under = percentiles(taken)["p99"]
    return {"ratio": under / before, "accepted": len(taken) / len(calls), "recovery": recovery * 1000}


async def _recovery(procedure: Any, allowed: float) -> float:
    """Return after how many seconds from now calls take no longer than `allowed` for `WARM_UP` of them in a row."""
    began = last = time.perf_counter()
    in_a_row = 0
    while in_a_row < WARM_UP:
        call_began = time.perf_counter()
        try:
            await procedure.call_async()
        except lightbus.LightbusException:
            in_a_row = 0
        else:
            in_a_row = in_a_row + 1 if time.perf_counter() - call_began <= allowed else 0
        if not in_a_row:
            last = time.perf_counter()
    return last - began


async def _timed(procedure: Any) -> list[float]:
    taken = []
    for _ in range(WARM_UP):
        began = time.perf_counter()
        await procedure.call_async()
        taken.append(time.perf_counter() - began)
    return taken


MEASUREMENTS: dict[str, Any] = {
    function.__name__: function
    for function in (
        hello, sync_async, sync_def, async_one, in_flight, threads, events, kept, fire_handler, fire_handler_kept,
        fire_script, fire_script_kept, echo, rss, crowd, overload_async, overload_def,
        observing_off,
    )
}  # fmt: skip

if __name__ == "__main__":
    measurement, count, *more = sys.argv[1:]
    tell(MEASUREMENTS[measurement](int(count), *more))
    bus.client.close()
