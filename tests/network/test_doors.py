"""Sync and async use of one bus, mixed in every way: loops, threads, and the end of a program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door, Process, Processes, scaled, wait_until
from helpers.surroundings import Surroundings
from helpers.waiting import LEAST
from lightbus import Api, BusAlreadyClosed, BusPath, CannotBlockHere, Event, LightbusShutdownInProgress
from lightbus.adapters.sqlite.outbox import HostOutbox

PROGRAMS = Path(__file__).parent / "programs"
DESCRIPTORS = Path("/proc/self/fd")
linux = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")

PROMPTLY = 3.0
"""Seconds in which a program that has nothing left to do must be gone; it takes about 0.3 on an idle machine."""


class Things(Api):
    class Meta:
        name = "things"

    changed = Event(["what"])

    def get(self) -> int:
        return 7


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a caller's bus."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


@pytest.fixture
def worker(processes: Processes) -> Process:
    """Start a worker of the API `work`."""
    worker = processes.worker("work", cwd=PROGRAMS)
    worker.wait_for_line("Ready")
    return worker


def opened() -> set[str]:
    """Return this process's open descriptors with their targets, without the one of the listing."""
    found = set()
    for descriptor in DESCRIPTORS.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{descriptor.name} {os.readlink(descriptor)}")
    return found


@linux
def test_create_opens_nothing(tmp_path: Path, surroundings: Any) -> None:
    """Making a bus, with all declarations, and dropping it opens no descriptor, thread or file."""
    before, threads = opened(), threading.active_count()
    bus = lightbus.create({"network": {"heartbeat_timeout": 5}}, service_name="nothing")
    bus.client.register_api(Things())
    bus.things.changed.listen(lambda message: None, listener_name="first")
    bus.client.on_start(lambda: None)
    bus.client.every(seconds=1)(lambda: None)
    assert bus.things.get.parameter_schema["properties"] == {}
    assert "get" in dir(bus.things)
    bus.client.close()
    assert opened() == before
    assert threading.active_count() == threads
    assert not [*surroundings.runtime.iterdir(), *surroundings.data.iterdir()]


def test_loops_one_after_another(bus: BusPath, worker: Process) -> None:
    """`asyncio.run` several times in a row, with sync calls before, between and after."""
    assert bus.work.echo(value=0) == 0
    for number in range(3):
        assert asyncio.run(_echo(bus, number)) == number
        assert bus.work.echo(value=number) == number


def test_program_may_begin_with_async_calls(bus: BusPath, worker: Process) -> None:
    """The first use of a bus may be an async call."""
    assert asyncio.run(_echo(bus, 1)) == 1
    assert asyncio.run(_echo(bus, 2)) == 2
    assert bus.work.echo(value=3) == 3


def test_loops_in_parallel(bus: BusPath, worker: Process) -> None:
    """Two loops in two threads share the bus, together with a plain thread."""
    results: list[list[int]] = []

    async def many(first: int) -> list[int]:
        return [await bus.work.echo.call_async(value=first + number) for number in range(scaled(500))]

    def in_a_loop(first: int) -> None:
        results.append(asyncio.run(many(first)))

    def without(first: int) -> None:
        results.append([bus.work.echo(value=first + number) for number in range(scaled(500))])

    threads = [threading.Thread(target=run, args=[n * 1000]) for n, run in enumerate([in_a_loop, in_a_loop, without])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[n * 1000 + number for number in range(scaled(500))] for n in range(3)]


@linux
def test_short_loops_leak_nothing(bus: BusPath, worker: Process) -> None:
    """The sockets of a loop are closed when it is closed; at the latest when the next loop makes a call."""
    for number in range(3):
        asyncio.run(_echo(bus, number))
    before = len(opened())
    for number in range(scaled(300)):
        asyncio.run(_echo(bus, number))
    wait_until(lambda: len(opened()) <= before + 2, what="libzmq's own thread has closed them")


def test_blocking_in_a_loop_is_refused(bus: BusPath) -> None:
    """The error of each blocking form names the one to await instead."""
    bus.client.register_api(Things())

    async def main() -> None:
        for blocks, twin in {
            lambda: bus.things.get(): r"await bus\.things\.get\.call_async\(\)",
            lambda: bus.things.get.call(): r"await bus\.things\.get\.call_async\(\)",
            lambda: bus.things.changed(what=1): r"await bus\.things\.changed\.fire_async\(\)",
            lambda: bus.things.changed.fire(what=1): r"await bus\.things\.changed\.fire_async\(\)",
            lambda: bus.elsewhere.something(): r"await bus\.elsewhere\.something\.call_async\(\) or \.fire_async\(\)",
            lambda: (
                bus.elsewhere.get.parameter_schema
            ): r"await asyncio\.to_thread\(lambda: bus\.elsewhere\.get\.parameter_schema\)",
            lambda: bus.client.wait_for_apis("things"): r"await bus\.client\.wait_for_apis_async\(\)",
            lambda: bus.client.run_forever(): r"await bus\.client\.start_worker\(\)",
            lambda: bus.client.start_in_background(): r"await bus\.client\.start_worker\(\)",
            lambda: bus.client.close(): r"await bus\.client\.close_async\(\)",
        }.items():
            with pytest.raises(CannotBlockHere, match=rf"would block the running event loop.* Write: {twin}"):
                blocks()

    asyncio.run(main())


def test_call_in_a_thread_beside_the_loop(bus: BusPath, worker: Process) -> None:
    """`asyncio.to_thread` is another way to block without blocking the loop."""

    async def main() -> Any:
        return await asyncio.to_thread(bus.work.echo, value=5)

    assert asyncio.run(main()) == 5


def test_closed_bus_refuses_and_may_be_closed_twice(bus: BusPath, worker: Process, door: Door) -> None:
    """A closed bus raises an error; closing twice is allowed."""
    assert door.call(bus.work.echo, value=1) == 1
    bus.client.close()
    bus.client.close()
    with pytest.raises(BusAlreadyClosed, match=r"Make a new one with lightbus\.create"):
        door.call(bus.work.echo, value=1)


def test_event_loop_closes_the_bus(worker: Process) -> None:
    """On an event loop the bus is closed by awaiting it, also after use."""

    async def main() -> None:
        bus = lightbus.create(service_name="caller")
        assert await bus.work.echo.call_async(value=1) == 1
        await bus.client.close_async()
        await bus.client.close_async()
        with pytest.raises(BusAlreadyClosed):
            await bus.work.echo.call_async(value=1)

    asyncio.run(main())


def test_close_ends_open_calls(bus: BusPath, worker: Process, door: Door) -> None:
    """Open calls raise an error at once when the bus is closed."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            door.call(bus.work.hold, seconds=LEAST)
        except BaseException as error:
            errors.append(error)

    assert door.call(bus.work.echo, value=1) == 1
    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: bus.work.log() == ["started"])
    bus.client.close()
    thread.join()
    assert isinstance(errors[0], LightbusShutdownInProgress)
    assert "before work.hold was answered" in str(errors[0])


SCRIPTS = {
    "call": ("assert bus.work.echo(value=1) == 1", 0),
    "one_line": ("import sys; sys.exit(bus.work.echo(value=3))", 3),
    "fire": ("bus.work.happened(what=1)", 0),
    "exception": ("bus.work.echo(value=1); raise ValueError('of the script')", 1),
    "unknown_api": ("bus.wrok.echo()", 1),
    "closed": ("bus.work.echo(value=1); bus.client.close()", 0),
    "dropped": (
        """
        def use():
            import lightbus
            other = lightbus.create(service_name="other")
            return other.work.echo(value=1)

        assert use() == 1
        import gc
        gc.collect()
        """,
        0,
    ),
    "daemon_thread": (
        """
        import threading, time

        def run():
            while True:
                bus.work.echo(value=1)

        for _ in range(4):
            threading.Thread(target=run, daemon=True).start()
        bus.work.echo(value=1)
        time.sleep(0.1)
        """,
        0,
    ),
    "daemon_thread_in_a_long_call": (
        """
        import threading, time
        threading.Thread(target=lambda: bus.work.hold(seconds=30, bus_options={"timeout": 30}), daemon=True).start()
        while "started" not in bus.work.log():
            time.sleep(0.01)
        """,
        0,
    ),
    "other_threads": (
        """
        import threading
        threads = [threading.Thread(target=lambda: bus.work.echo(value=1)) for _ in range(4)]
        for thread in threads:
            thread.start()
        """,
        0,
    ),
    "asyncio": (
        """
        import asyncio

        async def main():
            assert await bus.work.echo.call_async(value=1) == 1

        asyncio.run(main())
        """,
        0,
    ),
    "asyncio_with_calls_pending": (
        """
        import asyncio

        async def main():
            tasks = [asyncio.create_task(bus.work.hold.call_async(seconds=30)) for _ in range(3)]
            await bus.work.echo.call_async(value=1)

        asyncio.run(main())
        """,
        0,
    ),
    "loop_that_nobody_closes": (
        """
        import asyncio
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(bus.work.echo.call_async(value=1)) == 1
        bus.work.echo(value=1)
        loop.close()
        """,
        0,
    ),
    "worker_in_background": ("bus.client.start_in_background(); bus.work.echo(value=1)", 0),
    "handler_running_in_background": (
        """
        import threading, time
        bus.client.start_in_background()
        import lightbus
        me = bus.client.engine.identity.instance
        call = lambda: bus.work.hold_def(seconds=30, bus_options={"peer": me, "timeout": 30})
        threading.Thread(target=call, daemon=True).start()
        while "started" not in bus.work.log(bus_options={"peer": me}):
            time.sleep(0.01)
        """,
        0,
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_exits_promptly(processes: Processes, worker: Process, tmp_path: Path, name: str) -> None:
    """A script that used the bus ends after its last line, with its own exit code and without a warning."""
    code, expected = SCRIPTS[name]
    code = "from work import bus\n" + textwrap.dedent(code) + "\nprint('done', flush=True)\n"
    config = tmp_path / "bus.yaml"
    config.write_text("worker: {shutdown_timeout: 0.5}")  # what a worker in the background waits for its handlers
    script = processes.python(
        "-W", "default", "-c", code, cwd=PROGRAMS, name=name, env={"LIGHTBUS_CONFIG": str(config)}
    )
    if expected == 0:
        script.wait_for_line("^done$")
    assert script.wait(PROMPTLY) == expected
    if name in ("exception", "unknown_api"):
        assert script.stderr.startswith("Traceback")
        assert "Warning" not in script.stderr
    elif name == "handler_running_in_background":
        left = "1 of the running handlers did not end within 0.5 s; the worker stops without them: work.hold_def\n"
        assert said(script) == left
    else:
        assert said(script) == ""


def said(script: Process) -> str:
    """Return its standard error, without messages of its watchdog about a busy machine."""
    return "".join(line for line in script.stderr.splitlines(True) if not line.startswith("The event loop "))


@pytest.mark.parametrize("where", ["main", "asyncio", "other_thread"])
def test_interrupted_script_exits_promptly(processes: Processes, worker: Process, where: str) -> None:
    """Control-C during a call ends the script at once, in whichever thread the call is made."""
    code = {
        "main": "bus.work.hold(seconds=30, bus_options={'timeout': 30})",
        "asyncio": "import asyncio; asyncio.run(bus.work.hold.call_async(seconds=30, bus_options={'timeout': 30}))",
        "other_thread": """
            import threading, time
            call = lambda: bus.work.hold(seconds=30, bus_options={"timeout": 30})
            threading.Thread(target=call, daemon=True).start()
            print("sleeping", flush=True)  # an interrupt of `start()` may raise a RuntimeError about a lock of its own
            time.sleep(30)
        """,
    }[where]
    script = processes.python("-W", "default", "-c", "from work import bus\n" + textwrap.dedent(code), cwd=PROGRAMS)
    watcher = processes.python(
        "-c",
        "from work import bus\nimport time\nwhile 'started' not in bus.work.log(): time.sleep(0.01)\nprint('held')",
        cwd=PROGRAMS,
    )
    watcher.wait_for_line("^held$")
    if where == "other_thread":
        script.wait_for_line("^sleeping$")
    script.signal(signal.SIGINT)
    assert script.wait(PROMPTLY) == -signal.SIGINT
    assert script.stderr.splitlines()[-1].startswith("KeyboardInterrupt")
    assert "Warning" not in script.stderr
    assert "Exception in thread" not in script.stderr
    if where != "other_thread":
        log = processes.python(
            "-c",
            "from work import bus\nimport time\nwhile 'cancelled' not in bus.work.log(): time.sleep(0.01)\nprint('ok')",
            cwd=PROGRAMS,
        )
        log.wait_for_line("^ok$")


async def _echo(bus: BusPath, value: int) -> Any:
    return await bus.work.echo.call_async(value=value)


AT_EXIT = """
import atexit, sys, time
def late():
    print(bus.shop.ordered.fire(n=1).canonical_name, flush=True)
{before}
import lightbus
bus = lightbus.create(service_name="shop")
{after}
class ShopApi(lightbus.Api):
    ordered = lightbus.Event(["n"])
    class Meta:
        name = "shop"
bus.client.register_api(ShopApi())
{use}
"""


@pytest.mark.new_interpreters  # which exit functions there were before the package was imported is the subject
@pytest.mark.parametrize("use", ["", "bus.shop.ordered.fire(n=0)"], ids=["unused", "used"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_event_of_an_exit_handler(processes: Processes, surroundings: Surroundings, when: str, use: str) -> None:
    """It is stored if the bus is closed later; if it was closed before, the error says what to do; none hangs."""
    places = {"before": "", "after": "", when: "atexit.register(late)"}
    script = processes.python("-c", AT_EXIT.format(**places, use=use))
    assert script.wait(60) == 0
    if when == "after":
        assert script.stdout == "shop.ordered\n"
        outbox = HostOutbox(surroundings.data / surroundings.bus)
        assert sum(outbox.counts().values()) == 1 + bool(use)
    else:
        assert script.stdout == ""
        assert "register an exit handler that uses it after lightbus.create()" in script.stderr
