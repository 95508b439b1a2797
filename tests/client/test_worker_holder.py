"""The worker of a client: one at a time, notified of changes while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from helpers import wait_until
from helpers.waiting import LEAST
from lightbus import BusPath, Feature, UnsupportedUse
from lightbus.client import worker_holder as module
from lightbus.client.worker_holder import WorkerHolder
from lightbus.engine.worker import Worker


def test_no_effect_without_a_worker() -> None:
    """Changes without a worker have no effect on one; stopping and requesting a stop do nothing."""
    workers = WorkerHolder((Feature.RPCS,))
    made: list[Worker] = []

    async def change(worker: Worker) -> None:
        made.append(worker)

    workers.change(change)
    workers.request_stop()
    asyncio.run(workers.stop())
    assert not made
    assert not workers.publishes_only
    assert (workers.worker, workers.exit_code, workers.features) == (None, 0, (Feature.RPCS,))


def test_change_is_made_on_the_loop_of_the_worker(served: BusPath) -> None:
    """A plain thread returns when the worker has applied the change on its own loop."""
    worker = served.client.worker
    assert worker is not None
    loops: list[asyncio.AbstractEventLoop] = []

    async def change(told: Worker) -> None:
        assert told is worker
        loops.append(asyncio.get_running_loop())

    served.client._workers.change(change)
    assert loops == [worker.loop]


@pytest.mark.parametrize("error", [ValueError("no luck"), TimeoutError("no luck")])
def test_failure_of_a_change_is_raised_in_a_thread(served: BusPath, error: Exception) -> None:
    """Also a timeout, which is not that of waiting for the change."""

    async def change(worker: Worker) -> None:
        raise error

    with pytest.raises(type(error), match="no luck"):
        served.client._workers.change(change)


def test_change_that_is_made_as_the_time_ends(served: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made, and no error is raised."""
    made: list[Worker] = []

    async def change(worker: Worker) -> None:
        made.append(worker)

    def too_late(wait: Callable[..., object], *args: object) -> object:
        wait(*args)
        raise TimeoutError

    monkeypatch.setattr(module, "interruptible", too_late)
    served.client._workers.change(change)
    assert made == [served.client.worker]


def test_failure_of_a_change_that_nobody_waits_for_is_logged(
    served: BusPath, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a loop, and after a thread has waited for long enough."""
    workers, gate = served.client._workers, threading.Event()

    async def change(worker: Worker) -> None:
        await asyncio.to_thread(gate.wait)
        raise ValueError("no luck")

    async def on_a_loop() -> None:
        workers.change(change)

    monkeypatch.setattr(module, "CHANGE_TIMEOUT", 0.01)
    asyncio.run(on_a_loop())
    workers.change(change)
    assert "no luck" not in caplog.text
    gate.set()
    wait_until(lambda: caplog.text.count("ValueError: no luck") == 2)
    assert "The running worker goes on without what was just declared" in caplog.text


def test_worker_that_ends_before_a_change(served: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread declares meanwhile is no error: the next worker begins with it."""
    monkeypatch.setattr(module, "CHANGE_TIMEOUT", LEAST)
    workers, begun = served.client._workers, threading.Event()

    async def change(worker: Worker) -> None:
        begun.set()
        await asyncio.Event().wait()

    thread = threading.Thread(target=lambda: begun.wait() and served.client.request_shutdown())
    thread.start()
    workers.change(change)
    thread.join()
    wait_until(lambda: not served.client.is_worker)


def test_loop_of_a_worker_that_is_closed(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a declaration nor a request to stop fails where the loop was closed just now, with the worker on it."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bus.client.start_worker())
    worker = bus.client.worker
    assert worker is not None
    loop.run_until_complete(bus.client.stop_worker())
    bus.client._workers.worker = worker  # as if it had been closed without an end
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)
    bus.client._workers.change(lambda worker: worker.api_registered())
    bus.client.request_shutdown()
    bus.client._workers.worker = None


def test_second_worker_is_not_even_made(served: BusPath) -> None:
    """While one runs, another one is refused before it is made; the first keeps running."""
    workers = served.client._workers
    worker = workers.worker
    made: list[str] = []

    def make() -> Worker:
        made.append("made")
        raise AssertionError("never asked for")

    with pytest.raises(UnsupportedUse, match=r"has a running worker already; stop_worker\(\) ends it"):
        asyncio.run(workers.start(make))
    assert not made
    assert workers.worker is worker


def test_exit_code_is_the_highest_of_all(bus: BusPath) -> None:
    """The exit code of a worker is kept, unless a later one is higher."""

    async def main() -> None:
        for code in (3, 0):
            await bus.client.start_worker()
            worker = bus.client.worker
            assert worker is not None
            worker.request_stop(code)
            await worker.stopping.wait()
            await bus.client.stop_worker()
            assert bus.client.worker is None

    asyncio.run(main())
    assert bus.client.exit_code == 3
