"""`lightbus bench`: measure calls and events on your own bus: with its settings, its hosts, its disk."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ...config import load_config
from ...config.features import Feature
from ...config.surroundings import make_private
from ...core.peers import Peer
from ...events.publishing.journal_set import directory_of
from ...exceptions import LightbusException, LightbusTimeout, NotReachable, UnsupportedUse
from ..support.bench_responder import API, EVENTS_API, BenchEventsApi, responder
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.histogram import histogram, show_histogram, summary
from ..support.options import ClientOptions, client_options
from ..support.output import duration, number, size

__all__ = ["bench"]

START_SECONDS = 30.0
"""Seconds for the responder to start, on a busy machine."""

SETTLE_SECONDS = 60.0
"""Seconds for the events to be handled after the last one was fired."""

Operation = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _BenchLoad:
    """The load: how many operations, how many at a time, and how many bytes each."""

    count: int
    concurrency: int
    size: int


@click.group()
def bench() -> None:
    """Measure calls and events on your own bus.

    The responder is a process that it starts on this host, or a `lightbus bench serve` on another host (--peer).
    """


def load_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a measurement."""
    changed: Callable[..., None] = client_options(function)
    for option in (
        click.option("--peer", metavar="PEER", help="A `lightbus bench serve`: service, process or id."),
        click.option(
            "--size", type=click.IntRange(0, 1_000_000), default=100, show_default=True, help="Bytes of each message."
        ),
        click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="At a time."),
        click.option("--count", "-n", type=click.IntRange(1), default=2000, show_default=True, help="How many."),
    ):
        changed = option(changed)
    return changed


@bench.command()
@load_options
def calls(options: ClientOptions, count: int, concurrency: int, size: int, peer: str | None) -> None:
    """Measure calls: from the call until its result has arrived."""
    load = _BenchLoad(count=count, concurrency=concurrency, size=size)
    on_bus(options, lambda bus: _calls(bus, load, peer))


@bench.command()
@load_options
def events(options: ClientOptions, count: int, concurrency: int, size: int, peer: str | None) -> None:
    """Measure events: until each is on disk, and until the responder has handled all.

    They are stored on the disk of your events, in a separate directory that is removed afterwards.
    """
    load = _BenchLoad(count=count, concurrency=concurrency, size=size)
    config = load_config(config_file=options.config_file, overrides={"bus": {"name": options.bus_name}})
    beside = directory_of(config, "bench").parent
    try:
        make_private(beside)
        made = tempfile.TemporaryDirectory(prefix=".bench-", dir=beside)
    except OSError as error:
        raise UnsupportedUse(
            f"Events cannot be kept in {beside}: {error.strerror}. Set LIGHTBUS_DATA_DIR to another place."
        ) from None
    with made as directory:
        on_bus(options, lambda bus: _events(bus, load, peer), data_dir=Path(directory))


@bench.command()
@click.option("--name", default="lightbus-bench", show_default=True, help="The service's name.")
@click.option("--with-parent", is_flag=True, hidden=True)
@client_options
def serve(options: ClientOptions, name: str, with_parent: bool) -> None:
    """Be the responder of measurements from other hosts, until Ctrl-C."""
    from ...creation import configure_logging

    configure_logging(options.log_level or ("warning" if with_parent else "info"))
    config = load_config(
        config_file=options.config_file, service_name=name, overrides={"bus": {"name": options.bus_name}}
    ).model_copy(update={"plugins": {}})
    bus = responder(config, name)
    if with_parent:  # standard input is a pipe that only the parent holds
        bus.client.add_background_task(_until_parent_ends(bus.client.request_shutdown))
    raise SystemExit(bus.client.run_forever())


async def _until_parent_ends(end: Callable[[], None]) -> None:
    await asyncio.to_thread(sys.stdin.read)
    end()


# The responder


@contextlib.asynccontextmanager
async def _responder_peer(bus: Connection, name: str | None) -> AsyncIterator[Peer]:
    """Yield the peer that answers: the named one, or one that is started here and stopped afterwards."""
    if name is not None:
        yield (await bus.named(name, among=await bus.find(API)))[0]
        return
    service = f"lightbus-bench-{secrets.token_hex(4)}"
    process = _start(bus.options, service)
    try:
        yield await _started(bus, service, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, 10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(options: ClientOptions, service: str) -> subprocess.Popen[bytes]:
    given = {"--bus-name": options.bus_name, "--config": options.config_file}
    words = [word for option, value in given.items() if value is not None for word in (option, value)]
    return subprocess.Popen(
        [sys.executable, "-m", "lightbus", "bench", "serve", "--with-parent", "--name", service, *words],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal reaches only this process, which then stops the responder
    )


async def _started(bus: Connection, service: str, process: subprocess.Popen[bytes]) -> Peer:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(LightbusTimeout):
            await bus.client.wait_for_apis_async(API, timeout=0.2)
        for peer in bus.client.engine.snapshot.by_api.get(API, ()):
            if peer.announcement.service == service:
                return peer
        await asyncio.sleep(0.05)
    ended = f"ended with exit code {process.poll()}" if process.poll() is not None else "cannot be found"
    raise NotReachable(
        f"The responder of the measurement {ended} ({bus.where}). `lightbus doctor` looks for the reason."
    )


# The measurements


async def _calls(bus: Connection, load: _BenchLoad, name: str | None) -> int:
    payload = bytes(load.size)
    async with _responder_peer(bus, name) as peer:
        options = {"peer": peer.instance, "timeout": 10.0}

        def call() -> Awaitable[Any]:
            return bus.client.call_rpc_remote(API, "echo", {"payload": payload}, options)

        await call()  # not measured: it opens the connection
        times, failed, seconds = await _measured(bus, load, call, "Calls", stop_requested())
    _show(bus, "calls", load, times, failed, seconds, {})
    return 1 if failed else 0


async def _events(bus: Connection, load: _BenchLoad, name: str | None) -> int:
    run, payload = secrets.token_hex(8), bytes(load.size)
    client = bus.client
    client.register_api(BenchEventsApi())
    client.set_features([Feature.RPCS])
    await client.start_worker()
    try:
        async with _responder_peer(bus, name) as peer:

            def fire(which: str = run) -> Awaitable[Any]:
                return client.fire_event(EVENTS_API, "fired", {"run": which, "payload": payload})

            async def handled(which: str, wanted: int, seconds: float, done: asyncio.Event) -> int:
                end, count = time.monotonic() + seconds, 0
                while count < wanted and time.monotonic() < end and not await passes(done, 0.01):
                    question = {"run": which}
                    count = await client.call_rpc_remote(
                        API, "handled", question, {"peer": peer.instance, "timeout": 10.0}
                    )
                return count

            await fire("first")
            if not await handled("first", 1, START_SECONDS, asyncio.Event()):
                raise NotReachable(
                    f"{peer.announcement} receives no events of this process. `lightbus doctor` looks for the reason."
                )
            began, done = time.perf_counter(), stop_requested()
            times, failed, seconds = await _measured(bus, load, fire, "Events", done)
            done.clear()  # Ctrl-C has ended the load: what was fired is still waited for
            count = await handled(run, len(times), SETTLE_SECONDS, done) if times else 0
            whole = time.perf_counter() - began
    finally:
        await client.stop_worker()
    _show(bus, "events", load, times, failed, seconds, {"handled": count, "handled_rate": count / whole})
    return 1 if failed or count < len(times) else 0


async def _measured(
    bus: Connection, load: _BenchLoad, do: Operation, label: str, done: asyncio.Event
) -> tuple[list[float], int, float]:
    """Run the load until `done`; return the seconds of each operation, the number of failures, the seconds in total."""
    times: list[float] = []
    failed = 0
    left = iter(range(load.count))

    async def work() -> None:
        nonlocal failed
        for _ in left:
            if done.is_set():
                return
            before = time.perf_counter()
            try:
                await do()
            except LightbusException as error:
                failed += 1
                if failed == 1:
                    bus.output.note(f"The first failure: {error}")
                continue
            times.append(time.perf_counter() - before)
            if len(times) % 100 == 0:
                advance(len(times), label)
                await asyncio.sleep(0)

    began = time.perf_counter()
    with bus.output.progress(label, load.count) as advance:
        async with asyncio.TaskGroup() as group:
            for _ in range(load.concurrency):
                group.create_task(work())
    return times, failed, time.perf_counter() - began


def _show(
    bus: Connection, what: str, load: _BenchLoad, times: list[float], failed: int, seconds: float, more: dict[str, Any]
) -> None:
    output, measured = bus.output, summary(times)
    rate = len(times) / seconds if seconds else 0.0
    if output.as_json:
        bars = [{"to": None if math.isinf(end) else end, "count": count} for end, count in histogram(times)]
        given = {"concurrency": load.concurrency, "size": load.size}
        fields = {"type": what, "count": len(times), "failed": failed, "seconds": seconds, "rate": rate, **given}
        output.record({**fields, **measured, **more, "histogram": bars})
        return
    each = f"{load.concurrency} at a time, {size(load.size)} each"
    output.line((f"{len(times)} {what}", "bold"), f" in {duration(seconds)}: {number(rate)} per second ({each})")
    if failed:
        output.line((f"{failed} failed", "red"))
    if more:
        output.line(f"{more['handled']} handled, {number(more['handled_rate'])} per second from the first to the last")
    if times:
        names = {"min": "min", "p50": "50 %", "p90": "90 %", "p99": "99 %", "p999": "99.9 %", "max": "max"}
        output.line(", ".join(f"{words} {duration(measured[name])}" for name, words in names.items()))
        show_histogram(output, times)
