"""The life cycle of a worker: what it advertises, the order of its start, and how it stops."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door, Process, Processes, wait_until, wait_until_async
from helpers.failing import ODD
from helpers.waiting import LEAST
from lightbus import (
    Api,
    BusPath,
    Event,
    EventMessage,
    Feature,
    InvalidDeclaration,
    LightbusException,
    NotReachable,
    PeerLost,
)
from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.engine import event_backends
from lightbus.testing import memory_bus

PROGRAMS = Path(__file__).parent.parent / "network" / "programs"


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
    """Return a bus with APIs that no worker serves yet."""
    bus = lightbus.create({"worker": {"shutdown_timeout": 1.0, "drain_grace": 0.5}}, service_name="auth-service")
    bus.client.register_api(AuthApi())
    bus.client.register_api(HiddenApi())
    yield bus
    bus.client.close()


@pytest.fixture
def caller() -> Iterator[BusPath]:
    """Return the bus of another process."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


def test_announcement_names_procedures_events_versions_and_digests(bus: BusPath, caller: BusPath) -> None:
    """Its identity, procedures, events, versions, and a digest of each schema."""
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


def test_start_logs_what_is_served(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """The first log lines name the bus, the service, who can reach it, the listeners and the APIs."""
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


@pytest.mark.parametrize(("backend", "journals"), [("memory", 0), ("journal", 1)])
def test_a_journal_is_opened_only_for_apis_that_use_it(
    backend: str, journals: int, door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If a backend stores the events, no journal is opened or mentioned, also while events are handled."""
    caplog.set_level(logging.INFO, logger="lightbus")
    settings = {"journal": {"data_dir": str(tmp_path)}, "apis": {"default": {"events": {"backend": backend}}}}
    bus = lightbus.create(settings, service_name="auth-service")
    bus.client.register_api(AuthApi())
    heard: list[str] = []
    bus.auth.registered.listen(lambda message, username: heard.append(username), listener_name="hear")
    try:
        bus.client.start_in_background()
        door.fire_many(bus.auth.registered, [{"username": "a"}, {"username": "b"}])
        wait_until(lambda: sorted(heard) == ["a", "b"])
        assert len(list(tmp_path.rglob("*.sqlite"))) == journals
        assert caplog.text.count("Events are kept in") == journals
    finally:
        bus.client.close()


def test_start_hook_runs_before_the_first_call(bus: BusPath, caller: BusPath) -> None:
    """Resources from `on_start` exist when the first call arrives: the worker is not announced earlier."""
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
    """A worker that is told to stop finishes running calls, accepts no new ones, and then leaves."""
    results: list[str] = []
    bus.client.start_in_background()
    caller.client.wait_for_apis("auth")
    thread = threading.Thread(target=lambda: results.append(getattr(caller.auth, procedure)(seconds=0.4)))
    thread.start()
    worker = bus.client.worker
    assert worker is not None
    wait_until(lambda: worker.parts is not None and worker.parts.server.running == 1)
    bus.client.request_shutdown()
    wait_until(lambda: not bus.client.is_worker)
    thread.join()
    assert results == ["done"]
    assert "auth" not in caller.client.engine.snapshot.by_api


def test_calls_that_take_too_long_are_left(bus: BusPath, caller: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """After `shutdown_timeout` the worker leaves; an async handler is cancelled, and its caller gets an error."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            caller.auth.slow(seconds=LEAST, bus_options={"timeout": LEAST})
        except LightbusException as error:
            errors.append(error)

    bus.client.start_in_background()
    caller.client.wait_for_apis("auth")
    thread = threading.Thread(target=call)
    thread.start()
    worker = bus.client.worker
    assert worker is not None
    wait_until(lambda: worker.parts is not None and worker.parts.server.running == 1)
    bus.client.close()
    thread.join()
    assert isinstance(errors[0], (PeerLost, lightbus.LightbusWorkerError))  # and no LightbusTimeout
    assert any("did not end within 1.0 s; the worker stops without them" in line for line in caplog.messages)


def test_the_event_in_progress_is_finished(bus: BusPath) -> None:
    """The event that a listener handles when the worker stops is handled to its end."""
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
    """SIGINT and SIGTERM end a worker in order: announcement withdrawn, running calls finished, exit code 0."""
    pid: list[int] = []
    caller.client.wait_for_apis("work")
    thread = threading.Thread(target=lambda: pid.append(caller.work.hold_def(seconds=0.5)))
    thread.start()
    wait_until(lambda: caller.work.log() == ["started"])
    worker.signal(number)
    assert worker.wait() == 0
    thread.join()
    assert pid == [worker.pid]
    worker.wait_for_line(rf"Stopping, on {number.name}; a second signal ends it at once")
    worker.wait_for_line("Stopped work")
    assert "work" not in caller.client.engine.snapshot.by_api


def test_second_signal_ends_it_at_once(worker: Process, caller: BusPath) -> None:
    """To end without waiting for the running calls, send a second signal."""
    caller.client.wait_for_apis("work")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            caller.work.hold_def(seconds=600, bus_options={"timeout": 600})
        except LightbusException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: caller.work.log() == ["started"])
    worker.signal(signal.SIGTERM)
    worker.wait_for_line("Stopping")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 128 + signal.SIGTERM  # after the handler it would be 0
    thread.join()
    assert isinstance(errors[0], PeerLost)


def test_handler_that_never_ends_is_left(processes: Processes, caller: BusPath, tmp_path: Path) -> None:
    """A `def` handler cannot be stopped; after the timeout the worker's process ends without it, with exit code 0."""
    config = tmp_path / "bus.yaml"
    config.write_text("worker: {shutdown_timeout: 0.3, drain_grace: 0.3}")
    worker = processes.worker("work", cwd=PROGRAMS, env={"LIGHTBUS_CONFIG": str(config)})
    worker.wait_for_line("Ready")
    caller.client.wait_for_apis("work")
    with pytest.raises(lightbus.LightbusTimeout):
        caller.work.hold_def(seconds=600, bus_options={"timeout": 0.5})
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    worker.wait_for_line("1 of the running handlers did not end within 0.3 s")


# What runs by itself, and what goes wrong in it


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def undecided(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate without regard for `async def`, as many decorators do."""

    @functools.wraps(function)
    def wrapper() -> Any:
        return function()

    return wrapper


@pytest.mark.parametrize("form", ["def", "async def", "hidden"])
@pytest.mark.parametrize("kind", ["plain", "SystemExit", "CancelledError", "StopIteration", "a class that lies"])
def test_a_schedule_continues_after_an_error(
    bus: BusPath, caplog: pytest.LogCaptureFixture, form: str, kind: str
) -> None:
    """Any exception of a scheduled function is logged with its traceback, and the function runs again."""
    runs: list[str] = []

    def function() -> None:
        runs.append(TENANT.get())
        TENANT.set("left by a run")
        if len(runs) == 1:
            raise ODD[kind]()

    async def function_async() -> None:
        await asyncio.sleep(0)
        function()

    bus.client.every(seconds=0.01)(
        {"def": function, "async def": function_async, "hidden": undecided(function_async)}[form]
    )
    bus.client.start_in_background()
    wait_until(lambda: len(runs) > 2)
    assert bus.client.is_worker
    assert set(runs) == {"nobody"}
    assert "failed; it runs again at its next time" in caplog.text


def test_a_scheduled_function_that_cancels_its_task(bus: BusPath) -> None:
    """It ends neither its schedule nor the worker."""
    runs: list[int] = []

    async def function() -> None:
        runs.append(1)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    bus.client.every(seconds=0.01)(function)
    bus.client.start_in_background()
    wait_until(lambda: len(runs) > 2)


@pytest.mark.parametrize("kind", ["plain", "SystemExit", "CancelledError"])
def test_a_background_task_that_fails(bus: BusPath, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """The error is logged with its traceback, and the worker stops with exit code 1."""

    async def task() -> None:
        await asyncio.sleep(0)
        raise ODD[kind]()

    bus.client.add_background_task(task())
    bus.client.start_in_background()
    wait_until(lambda: not bus.client.is_worker)
    assert bus.client.exit_code == 1
    assert "A background task failed; the worker stops" in caplog.text
    assert f'File "{__file__}"' in caplog.text


def test_background_tasks_and_schedules_of_a_running_worker(bus: BusPath) -> None:
    """Those added while the worker runs start at once, each in its own context; at the end they are cancelled."""
    seen: list[str] = []

    async def task() -> None:
        seen.append(TENANT.get())
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    bus.client.start_in_background()
    TENANT.set("whoever adds it")
    bus.client.add_background_task(task())
    wait_until(lambda: seen == ["nobody"])
    bus.client.every(seconds=0.01)(lambda: seen.append("scheduled"))
    wait_until(lambda: "scheduled" in seen)
    bus.client.close()
    assert "cancelled" in seen
    assert bus.client.exit_code == 0


async def poll() -> None:
    """A background task."""


def poll_blocking() -> None:
    """A function that is no background task."""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (poll, r"^add_background_task\(\) needs a coroutine, and poll is the function that makes one\. "
               r"Call it: add_background_task\(poll\(\)\)\.$"),
        (poll_blocking, r"poll_blocking is a function\. Make it an `async def` and call it: add_background_task\("
                        r"poll_blocking\(\)\); or have it run by the clock, with every\(\) or schedule\(\)\.$"),
        (5, r"^add_background_task\(\) needs a coroutine, and 5 is none\.$"),
    ],
)  # fmt: skip
def test_invalid_background_tasks_are_refused(bus: BusPath, given: Any, text: str) -> None:
    """The error is raised where it is added, and says what to write instead."""
    with pytest.raises(InvalidDeclaration, match=text):
        bus.client.add_background_task(given)


def test_a_background_task_that_was_never_run(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """Without a worker it is closed at the end, with a log message and without a warning of Python."""
    bus.client.add_background_task(poll())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bus.client.close()
    assert "The background task poll was never run" in caplog.text


@pytest.mark.parametrize("how", ["exits", "stops the loop"])
def test_a_task_of_the_user_that_exits(
    bus: BusPath, caller: BusPath, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """SystemExit in a task that a handler left behind, and `loop.stop()`, end that task, and not the worker."""

    async def leave() -> None:
        if how == "stops the loop":
            asyncio.get_running_loop().stop()
        else:
            raise SystemExit(0)

    class LeavesApi(Api):
        class Meta:
            name = "leaves"

        async def behind(self) -> str:
            self._task = asyncio.create_task(leave())
            self._task.add_done_callback(lambda task: task.exception())
            return "answered"

    bus.client.register_api(LeavesApi())
    bus.client.start_in_background()
    stopped_by = {"exits": "SystemExit: 0", "stops the loop": "RuntimeError: Event loop stopped"}[how]
    text = f"The loop was stopped by a task or the handler of a signal ({stopped_by}"
    for number in (1, 2):
        assert caller.leaves.behind() == "answered"
        wait_until(lambda number=number: caplog.text.count(text) >= number)  # type: ignore[misc]  # not two in one turn
    assert caller.leaves.behind() == "answered"
    assert bus.client.is_worker


def test_a_start_hook_that_exits(bus: BusPath) -> None:
    """The worker does not start, and the error names the hook: it is no success, whatever the exit code."""

    @bus.client.on_start
    def leave() -> None:
        raise SystemExit(0)

    with pytest.raises(RuntimeError, match=r"^The hook on_start raised SystemExit: 0$"):
        bus.client.start_in_background()
    assert not bus.client.is_worker


def test_hooks_that_cancel_their_task(bus: BusPath) -> None:
    """At once or later: they run in a task of their own, not in that of the worker's start or stop."""
    tasks: list[Any] = []
    told: list[str] = []

    def add(hook: str) -> None:
        @getattr(bus.client, hook)
        async def cancel() -> None:
            tasks.append(asyncio.current_task())
            for task in tasks:
                task.cancel()
            told.append(hook)

    hooks = ["before_worker_start", "on_start", "on_stop", "after_worker_stopped"]
    for hook in hooks:
        add(hook)
    bus.client.start_in_background()
    assert bus.client.is_worker
    bus.client.close()
    assert told == hooks
    assert bus.client.exit_code == 0


@pytest.mark.parametrize("hook", ["on_stop", "after_worker_stopped"])
def test_a_stop_hook_that_fails(bus: BusPath, caplog: pytest.LogCaptureFixture, hook: str) -> None:
    """The worker still stops, with the error of the hook in the log and exit code 1."""

    def fail() -> None:
        raise SystemExit(0)

    getattr(bus.client, hook)(fail)
    bus.client.start_in_background()
    bus.client.close()
    assert f"The hook {hook} failed; the worker still stops" in caplog.text
    assert bus.client.exit_code == 1


def test_every_stop_hook_runs(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever another one raises: each ends something of its own."""
    told: list[str] = []

    @bus.client.on_stop
    def fail() -> None:
        raise ValueError("the first")

    @bus.client.on_stop
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    @bus.client.on_stop
    def close() -> None:
        told.append("closed")

    bus.client.start_in_background()
    bus.client.close()
    assert told == ["closed"]
    assert caplog.text.count("The hook on_stop failed; the worker still stops") == 2
    assert "the first" in caplog.text


class FailingBackend(MemoryEventBackend):
    """An event backend that does not start at first."""

    failures = 1

    async def start(self) -> None:
        if FailingBackend.failures:
            FailingBackend.failures -= 1
            raise OSError("no room")


def test_a_listener_whose_event_backend_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not declared, and gets nothing, as best effort either; it can be declared again."""
    monkeypatch.setattr(FailingBackend, "failures", 1)
    monkeypatch.setitem(event_backends.BUILT_IN, "memory", FailingBackend)
    config = {"apis": {"default": {"events": {"backend": "memory"}}}}
    heard: list[str] = []

    def hear(event_message: EventMessage, username: str) -> None:
        heard.append(username)

    with memory_bus() as hub:
        bus = hub.create(config, service_name="auth-service")
        bus.client.register_api(AuthApi())
        hub.start(bus)
        with pytest.raises(OSError, match="no room"):
            bus.client.listen_for_events([("auth", "registered"), ("auth", "seen")], hear, listener_name="hear")
        assert bus.client.listeners == []
        worker: Any = bus.client.worker
        assert worker.parts.consumer.runners == []
        bus.client.listen_for_events([("auth", "registered"), ("auth", "seen")], hear, listener_name="hear")
        bus.auth.registered.fire(username="sally")
        wait_until(lambda: heard == ["sally"])


def test_contexts_of_worker_and_caller(bus: BusPath, caller: BusPath, door: Door) -> None:
    """Context variables of handlers, life cycle hooks, and callers are separate, in both kinds of channels."""
    seen: list[str] = []

    class MarkedApi(Api):
        class Meta:
            name = "marked"

        async def of_async(self) -> str:
            found = TENANT.get()
            TENANT.set("a handler's")
            return found

        def of_def(self) -> str:
            found = TENANT.get()
            TENANT.set("a handler's")
            return found

    @bus.client.on_start
    async def start() -> None:
        TENANT.set("the worker's")

    @bus.client.on_stop
    def stop() -> None:
        seen.append(TENANT.get())

    bus.client.register_api(MarkedApi())

    def calls() -> None:
        TENANT.set("the caller's")
        bus.client.start_in_background()
        for _ in range(2):
            seen.append(door.call(caller.marked.of_async))
            seen.append(door.call(caller.marked.of_def))
        seen.append(TENANT.get())

    Context().run(calls)
    bus.client.close()
    assert seen == ["nobody"] * 4 + ["the caller's", "the worker's"]
