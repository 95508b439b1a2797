"""A worker's life cycle: beside other tasks, in the background, repeatedly; leaving without losing a call."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers import DOORS, MS, Door, Process, Stopwatch, scaled, wait_until, wait_until_async
from helpers.waiting import LEAST
from lightbus import (
    Api,
    BusPath,
    Event,
    LightbusException,
    LightbusShutdownInProgress,
    LightbusTimeout,
    UnknownApi,
    UnsupportedUse,
)
from lightbus.membership import link
from lightbus.membership.dialer import Dialer

if TYPE_CHECKING:
    from network.conftest import Network

AT_ONCE = 500 * MS


class Work(Api):
    class Meta:
        name = "work"

    happened = Event(["what"])

    async def who(self) -> int:
        return os.getpid()

    def who_def(self) -> int:
        return os.getpid()


class Later(Api):
    class Meta:
        name = "later"

    happened = Event(["what"])

    async def get(self) -> int:
        return 7


class Load:
    """Continuous calls from threads and from an event loop, with their outcomes."""

    def __init__(self, bus: BusPath, *, sync: int = 4, tasks: int = 8) -> None:
        self.answers: Counter[Any] = Counter()
        self.errors: list[Exception] = []
        self._bus = bus
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(sync)]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._call_together(tasks))))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until this many further calls have been answered."""
        before = self.answers.total()
        wait_until(lambda: self.answers.total() >= before + count or self.errors, what=f"{count} further calls")

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers[self._bus.work.who_def()] += 1
            except LightbusException as error:
                self.errors.append(error)

    async def _call_together(self, tasks: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(self._call_async())

    async def _call_async(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers[await self._bus.work.who.call_async()] += 1
            except LightbusException as error:
                self.errors.append(error)


def terminated(worker: Process) -> float:
    """Ask a worker to end; return the seconds that it took."""
    watch = Stopwatch()
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    return watch.seconds


# Leaving


@pytest.mark.usefixtures("patient_workers")
@pytest.mark.parametrize("mode", ["host", "insecure"])
def test_rolling_restart_loses_no_call(network: Network, mode: str) -> None:
    """Two workers are restarted one after the other under load from threads and a loop: no call fails."""
    network.use(mode)
    workers = network.start_all(mode, "work", "work")
    seconds = []
    with Load(network.bus()) as load:
        wait_until(lambda: {each.pid for each in workers} <= load.answers.keys(), what="both are used")
        for _ in range(scaled(10, least=2)):
            load.more(200)
            seconds.append(terminated(workers.pop(0)))
            load.more(200)
            workers.append(network.start())
            wait_until(lambda: workers[-1].pid in load.answers, what="the new one is used")
    print(f"{load.answers.total()} calls, leaving took {max(seconds):.3f} s at most")
    assert load.errors == []


@pytest.mark.usefixtures("patient_workers")
@pytest.mark.parametrize("mode", ["host", "insecure"])
def test_restart_of_the_only_worker_loses_no_call(network: Network, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that find the only worker leaving wait for its successor, up to `discovery.wait`."""
    network.use(mode)
    worker = network.start()
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(discovery={"wait": 20.0}))
    with Load(network.bus()) as load:
        load.more(200)
        assert worker.pid in load.answers
        terminated(worker)
        successor = network.start()
        wait_until(lambda: successor.pid in load.answers, what="the new one is used")
    assert load.errors == []


@pytest.mark.usefixtures("patient_workers")
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_leaving_worker_finishes_running_calls(network: Network, door: Door) -> None:
    """Calls that are being executed at SIGTERM are answered; later ones go elsewhere; then it ends with 0."""
    leaving = network.start()
    bus = network.bus()
    assert bus.work.who() == leaving.pid
    with ThreadPoolExecutor(4) as threads:
        held = [threads.submit(door.call, path, seconds=3.0) for path in (bus.work.hold, bus.work.hold_def) * 2]
        network.wait_for_calls(bus, 4)
        other = network.start()
        bus.client.wait_for_apis("work")
        wait_until(lambda: other.pid in {bus.work.who() for _ in range(10)})
        leaving.signal(signal.SIGTERM)
        leaving.wait_for_line("Stopping")
        wait_until(lambda: {bus.work.who() for _ in range(10)} == {other.pid})
        assert {door.call(bus.work.who) for _ in range(20)} == {other.pid}
        assert [call.result() for call in held] == [leaving.pid] * 4
    assert leaving.wait() == 0


def test_goodbye_is_effective_at_once(network: Network, door: Door) -> None:
    """When a worker has ended, no process offers it any more, and a call fails without waiting."""
    worker, other = network.start_all("host", "work", "other")
    bus = network.bus()
    assert door.call(bus.work.who) == worker.pid
    bus.client.wait_for_apis("other")
    with pytest.raises(UnknownApi):
        door.call(bus.nothing.who)  # from now on discovery has waited long enough for an unknown API
    seconds = terminated(worker)
    print(f"leaving took {seconds:.3f} s")
    assert seconds < 2
    watch = Stopwatch()
    with pytest.raises(UnknownApi, match=r"Advertised are: other\."):
        door.call(bus.work.who)
    assert watch.seconds < AT_ONCE
    other.wait_for_line(r"lightbus.node: peer .* said goodbye")


def test_frozen_caller_does_not_block_a_worker(network: Network) -> None:
    """A caller that does not react delays the end of a worker by its grace period and no more."""
    worker, frozen = network.start_all("host", "work", "other")
    frozen.wait_for_line("advertises work")
    frozen.signal(signal.SIGSTOP)
    assert terminated(worker) < 2 + 1 + 2
    frozen.signal(signal.SIGCONT)
    frozen.wait_for_line(r"(said goodbye|has left|went away)")


# In the user's own program


def fire_until(event: BusPath, heard: list[str]) -> None:
    """Fire an event repeatedly until it is received."""

    def fire() -> list[str]:
        event.fire(what="x")
        return heard

    wait_until(fire)


@contextmanager
def own_loop() -> Iterator[Callable[..., Any]]:
    """Run an event loop in a thread; return a function that runs a coroutine on it and returns its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("mode", ["host", "seed"])
def test_worker_beside_other_tasks(network: Network, mode: str) -> None:
    """`start_worker` serves beside other tasks of the loop; after a stop and another start it is found again."""
    network.use(mode)
    network.start_all(mode, "other")
    caller, bus = network.bus(), network.bus()
    bus.client.register_api(Work())

    async def main() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        task = asyncio.create_task(beat())
        for _ in range(3):
            await bus.client.start_worker()
            await caller.client.wait_for_apis_async("work")
            before = beats
            for _ in range(20):
                assert await asyncio.to_thread(caller.work.who) == os.getpid()
            assert beats > before
            assert await bus.other.who.call_async() > 0
            await bus.client.stop_worker()
            with pytest.raises(UnknownApi):
                await caller.work.who.call_async()
            assert await bus.other.who.call_async() > 0  # the client goes on
        task.cancel()
        return beats

    assert asyncio.run(main()) > 0


def test_only_one_worker_at_a_time(network: Network) -> None:
    """A second start is an error, and does not affect the worker."""
    bus = network.bus()
    bus.client.register_api(Work())

    async def main() -> None:
        await bus.client.start_worker()
        with pytest.raises(UnsupportedUse, match="running worker"):
            await bus.client.start_worker()
        assert await bus.work.who.call_async() == os.getpid()
        await bus.client.stop_worker()

    asyncio.run(main())


def test_worker_ends_with_its_loop(network: Network) -> None:
    """A program whose loop ends without `stop_worker` leaves the bus; its bus still works, and can serve again."""
    other = network.start("other")
    caller, bus = network.bus(), network.bus()
    bus.client.register_api(Work())

    async def main() -> None:
        await bus.client.start_worker()
        assert await asyncio.to_thread(caller.work.who) == os.getpid()

    for _ in range(2):
        asyncio.run(main())
        wait_until(lambda: "work" not in caller.client.engine.snapshot.by_api, AT_ONCE)
        assert bus.other.who() == other.pid


def test_loop_that_is_just_closed(network: Network) -> None:
    """A loop that is closed with a worker on it is detected at the next use: the bus continues in a thread."""
    other = network.start("other")
    bus = network.bus()
    bus.client.register_api(Work())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bus.client.start_worker())
    loop.run_until_complete(_cancel_all())
    loop.run_until_complete(loop.shutdown_asyncgens())  # as `asyncio.run` does: what was closed last is closed then
    loop.close()
    bus.client.wait_for_apis("other")  # a call alone gives the other process two seconds to say who it is
    assert bus.other.who() == other.pid


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_worker_in_the_background(network: Network) -> None:
    """`start_in_background` serves from a thread; APIs and listeners that are added later take effect at once."""
    caller, bus = network.bus(), network.bus()
    bus.client.register_api(Work())
    bus.client.start_in_background()
    assert caller.work.who() == os.getpid()
    bus.client.register_api(Later())
    caller.client.wait_for_apis("later")
    assert caller.later.get() == 7
    heard: list[str] = []
    bus.later.happened.listen(lambda message, what: heard.append(what), listener_name="late")
    fire_until(caller.later.happened, heard)
    assert set(heard) == {"x"}
    bus.client.request_shutdown()
    wait_until(lambda: not bus.client.is_worker)
    wait_until(lambda: "work" not in caller.client.engine.snapshot.by_api)
    bus.client.start_in_background()
    caller.client.wait_for_apis("work", "later")


def test_api_that_is_removed_while_running(network: Network, door: Door) -> None:
    """A worker no longer advertises a removed API, and continues with APIs that are added later."""
    caller, bus = network.bus(), network.bus()
    bus.client.register_api(Work())
    heard: list[str] = []
    bus.work.happened.listen(lambda message, what: heard.append("removed"), listener_name="of the removed")
    bus.client.start_in_background()
    assert caller.work.who() == os.getpid()
    bus.client.api_registry.remove("work")
    wait_until(lambda: "work" not in caller.client.engine.snapshot.by_api)
    with pytest.raises(UnknownApi, match="No peer advertises the API 'work'"):
        door.call(caller.work.who, bus_options={"timeout": 1})
    bus.client.register_api(Later())
    bus.later.happened.listen(lambda message, what: heard.append(what), listener_name="late")
    door.fire(bus.later.happened, what="x")  # nobody else is there: the worker hears itself
    wait_until(lambda: heard == ["x"])
    bus.client.register_api(Work())
    caller.client.wait_for_apis("work")
    door.fire(caller.work.happened, what="y")
    wait_until(lambda: heard == ["x", "removed"])


def test_listener_to_a_new_api_of_a_known_publisher(network: Network, door: Door) -> None:
    """If a publisher exchanges its APIs, a listener that is added later gets the events of the new ones."""
    publisher, listener = network.bus(), network.bus()
    publisher.client.register_api(Work())
    heard: list[str] = []
    listener.work.happened.listen(lambda message, what: heard.append("removed"), listener_name="of the removed")
    publisher.client.start_in_background()
    listener.client.start_in_background()
    listener.client.wait_for_apis("work")
    publisher.client.api_registry.remove("work")
    publisher.client.register_api(Later())
    listener.client.wait_for_apis("later")
    listener.later.happened.listen(lambda message, what: heard.append(what), listener_name="late")
    door.fire(publisher.later.happened, what="x")
    wait_until(lambda: heard == ["x"])


def test_listener_that_starts_before_its_publisher(network: Network) -> None:
    """It gets the events of a publisher that starts later."""
    bus = network.bus()
    heard: list[str] = []
    bus.work.happened.listen(lambda message, what: heard.append(what), listener_name="early")
    bus.client.start_in_background()
    network.start()
    caller = network.bus()
    caller.client.wait_for_apis("work")
    fire_until(caller.work.happened, heard)


def test_calls_continue_while_the_engine_moves(network: Network) -> None:
    """A program that starts and stops serving makes its own calls in the meantime, and none of them fails."""
    worker = network.start("work")
    bus = network.bus()
    bus.client.register_api(Later())
    with Load(bus, sync=2, tasks=2) as load, own_loop() as run:
        for _ in range(scaled(20, least=3)):
            load.more(50)
            run(bus.client.start_worker())
            load.more(50)
            run(bus.client.stop_worker())
    assert load.errors == []
    assert set(load.answers) == {worker.pid}


@pytest.mark.parametrize("mode", ["host", "insecure"])
def test_peer_that_is_busy_while_the_engine_moves(
    network: Network, door: Door, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer whose loop is blocked for longer than an attempt to reach it takes is not lost, nor are calls to it."""
    failed: list[str] = []
    monkeypatch.setattr(link, "HELLO_TIMEOUT", 300 * MS)
    dialled = Dialer._dialled
    monkeypatch.setattr(Dialer, "_dialled", lambda *args: (failed.append(args[3]), dialled(*args)))
    network.use(mode)
    worker = network.start("work")
    bus = network.bus()
    bus.client.register_api(Later())
    assert bus.work.who() == worker.pid
    done = tmp_path / "done"
    with ThreadPoolExecutor() as threads, own_loop() as run:
        call = threads.submit(door.call, bus.work.block_until, file=str(done), bus_options={"timeout": 60})
        wait_until((tmp_path / "done.begun").exists)
        failed.clear()
        run(bus.client.start_worker())
        wait_until(lambda: failed.count("does not answer") >= 2 or call.done(), what="two attempts to reach it")
        assert not call.done()
        done.touch()
        assert call.result(60) == worker.pid
        assert bus.work.who() == worker.pid
        run(bus.client.stop_worker())


def test_peer_that_dies_while_the_engine_moves(network: Network, door: Door) -> None:
    """The engine that follows another watches over the peers it was handed, and reports one that has died since."""
    worker = network.start("work")
    bus = network.bus()
    bus.client.register_api(Later())
    assert bus.work.who() == worker.pid

    async def main() -> None:
        await bus.client.start_worker()
        worker.kill()
        await bus.client.stop_worker()
        await wait_until_async(lambda: not worker.running)

    asyncio.run(main())
    with pytest.raises(LightbusException, match="work"):
        door.call(bus.work.who, bus_options={"timeout": 5})
    assert "work" not in bus.client.engine.snapshot.by_api


# The end


def test_close_ends_calls_in_progress(network: Network) -> None:
    """Waiting calls raise when the bus is closed, sync and async, and nothing of it remains."""
    worker = network.start()
    bus = network.bus()
    assert bus.work.who() > 0
    ended: list[LightbusException] = []

    def call(door: Door) -> None:
        try:
            door.call(bus.work.hold, seconds=LEAST, bus_options={"timeout": LEAST})
        except LightbusException as error:
            ended.append(error)

    threads = [threading.Thread(target=call, args=(door,)) for door in DOORS.values() for _ in range(4)]
    for thread in threads:
        thread.start()
    network.wait_for_calls(bus, len(threads))
    bus.client.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in ended] == [LightbusShutdownInProgress] * len(threads)
    worker.kill()  # it would wait for its handlers


def test_close_ends_a_search(network: Network) -> None:
    """A call that is still looking for a peer when the bus is closed raises at once."""
    bus = network.bus()
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(bus.client.wait_for_apis, "nothing", timeout=2 * LEAST)
        wait_until(lambda: (node := bus.client.engine.node) is not None and node.lookup._waiters)
        bus.client.close()
        with pytest.raises((LightbusShutdownInProgress, LightbusTimeout)):
            waiting.result(LEAST)


def test_close_ends_a_worker_on_another_loop(network: Network) -> None:
    """If it is closed from another thread, a bus with a worker on the user's loop leaves in order."""
    caller, bus = network.bus(), network.bus()
    bus.client.register_api(Work())
    with own_loop() as run:
        run(bus.client.start_worker())
        assert caller.work.who() == os.getpid()
        bus.client.close()
        wait_until(lambda: "work" not in caller.client.engine.snapshot.by_api, AT_ONCE)
