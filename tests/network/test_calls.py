"""Calls between processes: deadlines, cancelling, the choice among peers, concurrency, nesting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door, Process, Processes, Stopwatch, scaled, wait_until
from lightbus import BusPath, LightbusTimeout, LightbusWorkerError, PeerBusy

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a caller's bus."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


@pytest.fixture
def serve(processes: Processes, tmp_path: Path) -> Callable[..., Process]:
    """Return a function that starts a worker of an API, with its own settings."""

    def start(api: str = "work", **worker: int) -> Process:
        config = tmp_path / "worker.json"
        config.write_text(json.dumps({"worker": worker}))
        process = processes.worker("work", cwd=PROGRAMS, env={"API": api, "LIGHTBUS_CONFIG": str(config)})
        process.wait_for_line("Ready")
        return process

    return start


def together(door: Door, path: BusPath, count: int, **kwargs: Any) -> list[Any]:
    """Make `count` calls at the same time, each in a thread; return results and exceptions."""

    def call(_: int) -> Any:
        try:
            return door.call(path, **kwargs)
        except lightbus.LightbusException as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(call, range(count)))


def test_values_arrive_unchanged(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """Arguments and results arrive as they were, with `def` and `async def` handlers."""
    serve()
    value = {"text": "Grüße", "numbers": [1, -2, 2**60, 1.5], "nothing": None, "bytes": b"\0\xff", "flag": True}
    assert door.call(bus.work.echo, value=value) == value
    assert door.call(bus.work.echo_def, value=value) == value
    assert door.call(bus.work.echo, value=b"x" * 5_000_000) == b"x" * 5_000_000


def test_api_names_may_have_dots(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """`bus.shop.orders.who` is the procedure `who` of the API `shop.orders`."""
    worker = serve("shop.orders")
    assert door.call(bus.shop.orders.who) == worker.pid


@pytest.mark.parametrize("procedure", ["patient", "patient_async"])
def test_nested_call_inherits_the_deadline(
    bus: BusPath, serve: Callable[..., Process], door: Door, procedure: str
) -> None:
    """A call with a timeout of 5 s inside one that has 1.5 s left fails with that one."""
    serve("front")
    serve("back")
    assert door.call(bus.front.log) == []  # and it is connected to
    with contextlib.suppress(LightbusTimeout):  # the handler may return just in time
        door.call(getattr(bus.front, procedure), api="back", bus_options={"timeout": 1.5})
    log = wait_until(lambda: door.call(bus.front.log), what="the nested call ended")
    assert 0 < float(log[0].removeprefix("timeout ")) < 3
    wait_until(lambda: door.call(bus.back.log) == ["started", "cancelled"], what="so did the innermost handler")


def test_task_left_behind_has_no_deadline(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """A task that a handler leaves running does not have the deadline of the answered call."""
    serve()
    bus.client.wait_for_apis("work")
    door.call(bus.work.leave_behind, seconds=0.6, bus_options={"timeout": 0.4})
    wait_until(lambda: door.call(bus.work.log) == ["later"], what="the task's own call was answered")


def test_cancelled_call_cancels_its_handler(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """At the deadline, an async handler is cancelled; a `def` handler continues, and its answer is dropped."""
    serve()
    assert door.call(bus.work.log) == []  # and it is connected to
    with pytest.raises(LightbusTimeout):
        door.call(bus.work.hold, seconds=30, bus_options={"timeout": 0.5})
    wait_until(lambda: door.call(bus.work.log) == ["started", "cancelled"])
    with pytest.raises(LightbusTimeout):
        door.call(bus.work.hold_def, seconds=0.7, bus_options={"timeout": 0.5})
    wait_until(lambda: door.call(bus.work.log) == ["started", "cancelled", "started", "finished"])
    assert door.call(bus.work.echo, value=1) == 1


def test_cancelled_task_cancels_its_call(bus: BusPath, serve: Callable[..., Process]) -> None:
    """Cancelling the task that awaits a call cancels the handler, too; other calls are not affected."""
    serve()

    async def main() -> None:
        task = asyncio.create_task(bus.work.hold.call_async(seconds=3))
        other = asyncio.create_task(bus.work.hold.call_async(seconds=0.3))
        while len(await bus.work.log.call_async()) < 2:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other
        while len(log := await bus.work.log.call_async()) < 4:  # it may be asked in the turn that cancels
            await asyncio.sleep(0.005)
        assert sorted(log) == ["cancelled", "finished", "started", "started"]

    asyncio.run(main())


def test_cancelled_at_once(bus: BusPath, serve: Callable[..., Process]) -> None:
    """Calls that are cancelled before their handlers start leave no place occupied, whatever the timing."""
    serve(rpc_concurrency=2, rpc_queue=4)

    async def main() -> None:
        await bus.work.who.call_async()
        for _ in range(scaled(500)):
            tasks = [asyncio.create_task(bus.work.hold.call_async(seconds=3)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.gather(*(bus.work.echo.call_async(value=n) for n in range(4))) == [0, 1, 2, 3]

    asyncio.run(main())


def test_calls_are_distributed(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """Two workers of one API share the calls: sequential ones at random, parallel ones by the calls in flight."""
    first, second = serve(), serve()
    wait_until(lambda: len({door.call(bus.work.who) for _ in range(20)}) == 2, what="both are known")
    one_by_one = Counter(door.call(bus.work.who) for _ in range(100))
    assert one_by_one.keys() == {first.pid, second.pid}
    assert min(one_by_one.values()) > 25
    if door.call.__qualname__.startswith("Sync"):  # the async door's loops, one each, count for themselves
        at_once = Counter(together(door, bus.work.hold, 32, seconds=0.3))
        assert min(at_once.values()) >= 12


def test_calls_in_flight_determine_the_peer(bus: BusPath, serve: Callable[..., Process]) -> None:
    """On one loop, too, the peer with fewer of our open calls gets the next one."""
    serve()
    serve()

    async def main() -> Counter[int]:
        while len({await bus.work.who.call_async() for _ in range(20)}) < 2:
            pass
        return Counter(await asyncio.gather(*(bus.work.hold.call_async(seconds=0.3) for _ in range(100))))

    assert min(asyncio.run(main()).values()) >= 40


@pytest.mark.parametrize("procedure", ["hold", "hold_def"])
def test_concurrency_is_bounded(bus: BusPath, serve: Callable[..., Process], door: Door, procedure: str) -> None:
    """`rpc_concurrency` calls run, `rpc_queue` wait, and the rest are refused at once: busy, and not executed."""
    serve(rpc_concurrency=2, rpc_queue=3)
    door.call(bus.work.who)
    watch = Stopwatch()
    results = together(door, getattr(bus.work, procedure), 8, seconds=0.5)
    refused = [result for result in results if isinstance(result, PeerBusy)]
    assert len(refused) == 3
    assert "runs 2 calls and has 3 waiting" in str(refused[0])
    assert "raise worker.rpc_concurrency" in str(refused[0])
    assert watch.elapsed > 1.4  # three turns of two
    assert door.call(bus.work.most) == 2
    assert door.call(bus.work.log).count("started") == 5


def test_busy_worker_is_avoided(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """Calls that one worker has no room for go to another; PeerBusy is raised when all are full."""
    serve(rpc_concurrency=1, rpc_queue=0)
    serve(rpc_concurrency=1, rpc_queue=0)
    wait_until(lambda: len({door.call(bus.work.who) for _ in range(20)}) == 2, what="both are known")
    results = together(door, bus.work.hold, 3, seconds=0.5)
    assert sorted(type(result).__name__ for result in results) == ["PeerBusy", "int", "int"]
    assert len({result for result in results if isinstance(result, int)}) == 2


@pytest.mark.parametrize("procedure", ["along", "along_async"])
def test_nested_calls_do_not_block_themselves(
    bus: BusPath, serve: Callable[..., Process], door: Door, procedure: str
) -> None:
    """Even if one call may run at a time, a call back into the worker that waits for it is executed."""
    serve("a", rpc_concurrency=1, rpc_queue=0)
    serve("b", rpc_concurrency=1, rpc_queue=0)
    for way in (["a"], ["a", "a", "a"], ["b", "a"], ["b", "a", "b", "a"]):
        assert door.call(getattr(bus.a, procedure), way=way) == ["a", *way]


@pytest.mark.parametrize("procedure", ["around", "around_async"])
def test_endless_recursion_ends(bus: BusPath, serve: Callable[..., Process], door: Door, procedure: str) -> None:
    """An endless recursion of calls fails with a clear error, and not at its deadline."""
    serve("a")
    serve("b")
    for other in ("a", "b"):
        with pytest.raises(LightbusWorkerError, match=r"is 32 calls deep, .* is it a circle\?") as caught:
            door.call(getattr(bus.a, procedure), api=other)
        assert len(str(caught.value).splitlines()[0]) < 2000
        assert door.call(bus.a.echo, value=1) == 1


def test_many_threads_share_a_bus(bus: BusPath, serve: Callable[..., Process], door: Door) -> None:
    """16 threads make calls through one bus, and each gets its own answers."""
    serve(max_queue_time=60.0)  # how soon a busy machine comes to them is not the matter here
    wrong: list[Any] = []

    def run(number: int) -> None:
        for count in range(scaled(500)):
            value = [number, count]
            if door.call(bus.work.echo if count % 2 else bus.work.echo_def, value=value) != value:
                wrong.append(value)

    threads = [threading.Thread(target=run, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
