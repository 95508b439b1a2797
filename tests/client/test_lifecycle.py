"""A worker's life inside a program."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until, wait_until_async
from helpers.waiting import LEAST
from lightbus import (
    BusAlreadyClosed,
    BusPath,
    Feature,
    LightbusServerMustStartInMainThread,
    LightbusShutdownInProgress,
    UnknownApi,
    UnsupportedUse,
)
from lightbus.client import lifecycle
from lightbus.interrupts import interruptible


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


def start_that_waits(bus: BusPath) -> tuple[threading.Event, asyncio.Event]:
    """Declare a start hook that waits for the returned event of a loop; the other one is set when it does."""
    waits, never = threading.Event(), asyncio.Event()

    @bus.client.on_start
    async def on_start() -> None:
        waits.set()
        await never.wait()

    return waits, never


def workers() -> list[threading.Thread]:
    """Return the threads that run workers in the background."""
    return [thread for thread in threading.enumerate() if thread.name == "lightbus-worker"]


def test_interrupt_cancels_the_start(bus: BusPath) -> None:
    """After a Ctrl-C no worker is left that starts, and would keep the program from ending; another one can start."""
    waits, never = start_that_waits(bus)
    main = threading.get_ident()

    def interrupt() -> None:
        waits.wait()
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        bus.client.start_in_background()
    thread.join()
    wait_until(lambda: not bus.client.is_worker and not workers())
    never.set()
    bus.client.start_in_background()
    assert bus.auth.check_password(username="sally", password="secret") is True


def test_start_that_takes_too_long_is_cancelled(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and no worker is left that starts later."""
    monkeypatch.setattr(lifecycle, "BACKGROUND_START_TIMEOUT", 0.05)
    start_that_waits(bus)
    with pytest.raises(lightbus.LightbusTimeout, match=r"not start within 0\.05 s, and was stopped\. Does a"):
        bus.client.start_in_background()
    wait_until(lambda: not bus.client.is_worker and not workers())


def test_start_hook_that_times_out(bus: BusPath) -> None:
    """Its own error is raised, as any other."""

    @bus.client.on_start
    def on_start() -> None:
        raise TimeoutError("the database does not answer")

    with pytest.raises(TimeoutError, match="the database does not answer"):
        bus.client.start_in_background()
    wait_until(lambda: not bus.client.is_worker and not workers())


@pytest.mark.parametrize("fails", [False, True])
def test_start_that_ends_as_the_time_does(bus: BusPath, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """The worker serves, or the error of its start is raised: it is not taken for one that did not start."""

    def too_late(wait: Callable[..., Any], *args: object) -> Any:
        result = interruptible(wait, *args)
        if args:
            raise TimeoutError
        return result

    @bus.client.on_start
    def on_start() -> None:
        if fails:
            raise ValueError("no database")

    monkeypatch.setattr(lifecycle, "interruptible", too_late)
    with pytest.raises(ValueError, match="no database") if fails else contextlib.nullcontext():
        bus.client.start_in_background()
    assert bus.client.is_worker is not fails
    wait_until(lambda: len(workers()) == (not fails))


def test_bus_is_closed_while_a_worker_starts(bus: BusPath) -> None:
    """The worker is not waited for, and who starts it is told."""
    waits, _ = start_that_waits(bus)
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(bus.client.start_in_background)
        waits.wait()
        bus.client.close()
        assert not workers()
        with pytest.raises(BusAlreadyClosed, match="before its worker had started"):
            started.result()


def test_worker_is_stopped_while_it_starts(bus: BusPath) -> None:
    """The start ends at once, with an error that says why, and another worker can start."""
    waits, never = start_that_waits(bus)

    async def main() -> None:
        start = asyncio.create_task(bus.client.start_worker())
        await asyncio.to_thread(waits.wait)
        await bus.client.stop_worker()
        with pytest.raises(LightbusShutdownInProgress, match="stopped before it had started"):
            await asyncio.wait_for(start, LEAST)
        assert not bus.client.is_worker
        never.set()
        await bus.client.start_worker()
        assert await bus.auth.check_password.call_async(username="sally", password="secret") is True

    asyncio.run(main())


def test_start_that_is_given_up_in_a_thread(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """A `def` hook that still runs there keeps no stop hook from running."""
    waits, go, ended = threading.Event(), threading.Event(), list[str]()

    @bus.client.on_start
    def on_start() -> None:
        waits.set()
        go.wait()

    @bus.client.on_stop
    def on_stop() -> None:
        ended.append("def")

    @bus.client.after_worker_stopped
    async def after_worker_stopped() -> None:
        ended.append("async def")

    async def main() -> None:
        for is_stopped in (True, False):
            waits.clear()
            start = asyncio.create_task(bus.client.start_worker())
            await asyncio.to_thread(waits.wait)
            if is_stopped:
                await bus.client.stop_worker()
            else:
                start.cancel()
            await asyncio.wait([start])
            assert isinstance(start.exception(), LightbusShutdownInProgress) if is_stopped else start.cancelled()
        go.set()

    asyncio.run(main())
    assert ended == ["def", "async def"] * 2
    assert bus.client.exit_code == 0
    assert "failed" not in caplog.text


@pytest.mark.parametrize("ends", ["stop_worker", "close_async", "in a thread"])
def test_stop_hook_that_stops_the_worker(bus: BusPath, ends: str) -> None:
    """It does not wait for the end that it is a part of."""
    told: list[str] = []

    async def on_stop_async() -> None:
        await getattr(bus.client, ends)()
        told.append("ended")

    def on_stop() -> None:
        asyncio.run_coroutine_threadsafe(bus.client.stop_worker(), loops[0]).result()
        told.append("ended")

    bus.client.on_stop(on_stop if ends == "in a thread" else on_stop_async)
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await bus.client.start_worker()
        await asyncio.wait_for(bus.client.stop_worker(), LEAST)
        assert told == ["ended"]
        assert not bus.client.is_worker

    asyncio.run(main())


def stop_that_waits(bus: BusPath) -> tuple[asyncio.Event, asyncio.Event, list[str]]:
    """Declare a stop hook that sets the first returned event, and waits for the second; and what the last hook adds."""
    waits, go, ended = asyncio.Event(), asyncio.Event(), list[str]()

    @bus.client.on_stop
    async def on_stop() -> None:
        waits.set()
        await go.wait()

    bus.client.after_worker_stopped(lambda: ended.append("ended"))
    return waits, go, ended


def test_all_who_stop_a_worker_wait_for_its_end(bus: BusPath) -> None:
    """Also `consume_rpcs`, and who is cancelled meanwhile does not cut it short."""
    waits, go, ended = stop_that_waits(bus)

    async def main() -> None:
        serving = asyncio.create_task(bus.client.consume_rpcs())
        await wait_until_async(lambda: bus.client.is_worker)
        await bus.client.wait_for_apis_async("auth")
        first = asyncio.create_task(bus.client.stop_worker())
        await waits.wait()
        second = asyncio.create_task(bus.client.close_async())
        first.cancel()
        await asyncio.wait([first])
        assert not serving.done()
        assert not second.done()
        assert not ended
        go.set()
        await asyncio.gather(serving, second)
        assert ended == ["ended"]

    asyncio.run(main())


def test_worker_is_stopped_from_another_loop(served: BusPath, caller: BusPath) -> None:
    """A handler that runs comes to its end, the worker stops on its own loop, and another one can start."""
    begun, go, loops = threading.Event(), threading.Event(), list[Any]()

    class SlowApi(lightbus.Api):
        class Meta:
            name = "slow"

        async def work(self) -> str:
            begun.set()
            await asyncio.to_thread(go.wait)
            return "done"

    @served.client.on_stop
    async def on_stop() -> None:
        loops.append(asyncio.get_running_loop())

    async def main() -> None:
        answer = asyncio.create_task(caller.slow.work.call_async())
        await asyncio.to_thread(begun.wait)
        stop = asyncio.create_task(served.client.stop_worker())
        await wait_until_async(lambda: worker.stopping.is_set())
        go.set()
        assert await answer == "done"
        await stop
        assert not served.client.is_worker
        assert loops == [worker.loop]

    served.client.register_api(SlowApi())
    worker = served.client.worker
    assert worker is not None
    asyncio.run(main())
    assert not workers()
    served.client.start_in_background()
    assert served.auth.check_password(username="sally", password="secret") is True


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
    part, worker = served.client._lifecycle, served.client.worker
    thread, part.thread = part.thread, None
    part._workers.worker = None  # as if it had not been there yet
    begin = part._start_publisher

    async def begin_too_late() -> Any:
        part._workers.worker = worker
        return await begin()

    monkeypatch.setattr(part, "_start_publisher", begin_too_late)
    try:
        part.start_publishing()
    finally:
        part.thread, part._workers.worker = thread, worker
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
        assert bus.client.features == (Feature.RPCS,)
        with pytest.raises(UnsupportedUse, match="has a running worker already"):
            await bus.client.consume_rpcs()
        bus.client.request_shutdown()
        await serving

    features = bus.client.features
    asyncio.run(main())
    assert bus.client.features == features  # those of the next worker


def test_consume_rpcs_that_is_cancelled(bus: BusPath) -> None:
    """It serves no more."""

    async def main() -> None:
        serving = asyncio.create_task(bus.client.consume_rpcs())
        await bus.client.wait_for_apis_async("auth")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not bus.client.is_worker

    asyncio.run(main())
