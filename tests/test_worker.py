"""A worker's life: what it advertises, in which order it starts, and how it leaves."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightbus
from helpers import Process, Processes, wait_until, wait_until_async
from lightbus import Api, BusPath, Event, Feature, LightbusException, NotReachable, PeerLost

PROGRAMS = Path(__file__).parent / "network" / "programs"


class AuthApi(Api):
    registered = Event(["username"])
    seen = Event(["username"], delivery="best_effort")

    class Meta:
        name = "auth"
        version = 2

    async def check(self, username: str) -> bool:
        return True

    async def slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    def slow_def(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"


class HiddenApi(Api):
    class Meta:
        name = "hidden"
        internal = True


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with APIs, that nobody serves yet."""
    bus = lightbus.create({"worker": {"shutdown_timeout": 1.0, "drain_grace": 0.5}}, service_name="auth-service")
    bus.client.register_api(AuthApi())
    bus.client.register_api(HiddenApi())
    yield bus
    bus.client.close()


@pytest.fixture
def caller() -> Iterator[BusPath]:
    """Return the bus of somebody else."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


def test_announcement(bus: BusPath, caller: BusPath) -> None:
    """A worker says who it is and what it has: procedures, events, versions, a digest of each schema."""
    bus.client.start_in_background()
    caller.client.wait_for_apis("auth")
    [peer] = caller.client.engine.snapshot.by_api["auth"]
    said = peer.announcement
    assert (said.service, said.instance) == ("auth-service", bus.client.engine.identity.instance)
    auth, hidden = said.apis or ()
    assert (auth.name, auth.procedures) == ("auth", ("check", "slow", "slow_def"))
    assert (auth.events, auth.best_effort, auth.version) == (("registered", "seen"), ("seen",), 2)
    assert auth.digest == bus.schema.digest("auth")
    assert (hidden.name, hidden.internal) == ("hidden", True)


def test_start_says_what_is_served(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """The start-up lines name the bus, the service, who can reach it, the listeners and the APIs."""
    caplog.set_level(logging.INFO, "lightbus")
    bus.other.happened.listen(lambda message: None, listener_name="hears")
    bus.client.set_features([Feature.RPCS, Feature.EVENTS])
    bus.client.start_in_background()
    text = "\n".join(caplog.messages)
    for words in (
        "service 'auth-service'",
        "no key: this bus stays on this host",
        "Listening: hears of other.happened",
        "Doing only: events, rpcs",
        "Serving auth at ipc:",
    ):
        assert words in text
    assert "hidden" not in text
    assert text.endswith("Ready.")


def test_start_hook_runs_before_the_first_call(bus: BusPath, caller: BusPath) -> None:
    """What `on_start` prepares is there when the first call comes: nobody hears of the worker earlier."""
    prepared: list[str] = []

    @bus.client.on_start
    async def prepare() -> None:
        with pytest.raises(NotReachable, match="auth"):
            await caller.auth.check.call_async(username="sally", bus_options={"timeout": 0.3})
        prepared.append("all")

    bus.client.start_in_background()
    assert prepared == ["all"]
    assert caller.auth.check(username="sally") is True


@pytest.mark.parametrize("procedure", ["slow", "slow_def"])
def test_running_calls_are_finished(bus: BusPath, caller: BusPath, procedure: str) -> None:
    """A worker that is told to stop finishes what runs, takes nothing new, and then leaves."""
    results: list[str] = []
    bus.client.start_in_background()
    caller.client.wait_for_apis("auth")
    thread = threading.Thread(target=lambda: results.append(getattr(caller.auth, procedure)(seconds=0.4)))
    thread.start()
    worker = bus.client._worker
    assert worker is not None
    wait_until(lambda: worker.server is not None and worker.server.running == 1)
    bus.client.request_shutdown()
    wait_until(lambda: not bus.client.is_worker)
    thread.join()
    assert results == ["done"]
    assert "auth" not in caller.client.engine.snapshot.by_api


def test_calls_that_take_too_long_are_left(bus: BusPath, caller: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """After `shutdown_timeout` the worker leaves; an async handler is cancelled, and its caller is told."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            caller.auth.slow(seconds=4, bus_options={"timeout": 4})
        except LightbusException as error:
            errors.append(error)

    bus.client.start_in_background()
    caller.client.wait_for_apis("auth")
    thread = threading.Thread(target=call)
    thread.start()
    worker = bus.client._worker
    assert worker is not None
    wait_until(lambda: worker.server is not None and worker.server.running == 1)
    began = time.monotonic()
    bus.client.close()
    assert time.monotonic() - began < 3
    thread.join()
    assert isinstance(errors[0], (PeerLost, lightbus.LightbusWorkerError))
    assert any("did not end within 1.0 s; the worker leaves without them" in line for line in caplog.messages)


def test_listener_is_finished(bus: BusPath) -> None:
    """The event that a listener is handling when the worker stops is handled to its end."""
    handled: list[str] = []

    async def handle(message: lightbus.EventMessage, username: str) -> None:
        handled.append("begun")
        await asyncio.sleep(0.3)
        handled.append("ended")

    bus.auth.registered.listen(handle)

    async def main() -> None:
        await bus.client.start_worker()
        await bus.auth.registered.fire_async(username="sally")
        await wait_until_async(lambda: handled == ["begun"])
        await bus.client.stop_worker()

    asyncio.run(main())
    assert handled == ["begun", "ended"]


def test_loop_that_ends_without_stop(bus: BusPath, caller: BusPath) -> None:
    """A program that forgets `stop_worker` leaves no worker behind; it can start one again, on another loop."""

    async def main() -> bool:
        await bus.client.start_worker()
        return bool(await bus.auth.check.call_async(username="sally"))

    for _ in range(2):
        assert asyncio.run(main()) is True
        assert not bus.client.is_worker
        wait_until(lambda: "auth" not in caller.client.engine.snapshot.by_api)


# As programs


@pytest.fixture
def worker(processes: Processes) -> Process:
    """Start a worker of the API `work`."""
    worker = processes.worker("work", cwd=PROGRAMS)
    worker.wait_for_line("Ready")
    return worker


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it(worker: Process, caller: BusPath, number: signal.Signals) -> None:
    """SIGINT and SIGTERM end a worker cleanly: the announcement withdrawn, running calls finished, exit code 0."""
    pid: list[int] = []
    caller.client.wait_for_apis("work")
    thread = threading.Thread(target=lambda: pid.append(caller.work.hold_def(seconds=0.5)))
    thread.start()
    wait_until(lambda: caller.work.log() == ["started"])
    worker.signal(number)
    assert worker.wait() == 0
    thread.join()
    assert pid == [worker.pid]
    worker.wait_for_line(rf"Stopping, on {number.name}; once more ends it at once")
    worker.wait_for_line("Stopped work")
    assert "work" not in caller.client.engine.snapshot.by_api


def test_second_signal_ends_it_at_once(worker: Process, caller: BusPath) -> None:
    """Whoever does not want to wait for the running calls signals once more."""
    caller.client.wait_for_apis("work")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            caller.work.hold_def(seconds=8, bus_options={"timeout": 8})
        except LightbusException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: caller.work.log() == ["started"])
    worker.signal(signal.SIGTERM)
    worker.wait_for_line("Stopping")
    worker.signal(signal.SIGTERM)
    assert worker.wait(2) == 128 + signal.SIGTERM
    thread.join()
    assert isinstance(errors[0], PeerLost)


def test_handler_that_never_ends_is_left(processes: Processes, caller: BusPath, tmp_path: Path) -> None:
    """A `def` handler cannot be stopped; after its time the worker's process ends without it, with exit code 0."""
    config = tmp_path / "bus.yaml"
    config.write_text("worker: {shutdown_timeout: 0.3, drain_grace: 0.3}")
    worker = processes.worker("work", cwd=PROGRAMS, env={"LIGHTBUS_CONFIG": str(config)})
    worker.wait_for_line("Ready")
    with pytest.raises(lightbus.LightbusTimeout):
        caller.work.hold_def(seconds=30, bus_options={"timeout": 0.2})
    worker.signal(signal.SIGTERM)
    assert worker.wait(3) == 0
    worker.wait_for_line("1 of the running handlers did not end within 0.3 s")
