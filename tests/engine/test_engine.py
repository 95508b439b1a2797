"""The engine of a process: where its node runs, how it moves, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import MS, scaled, wait_until, wait_until_async
from helpers.handlers import no_handlers
from helpers.surroundings import Surroundings
from helpers.waiting import LEAST
from lightbus import (
    Api,
    BusAlreadyClosed,
    LightbusShutdownInProgress,
    LightbusTimeout,
    UnknownApi,
    UnsupportedUse,
    load_config,
)
from lightbus.adapters.memory.discovery import MemoryDiscovery, MemoryHub
from lightbus.deadline import Deadline
from lightbus.engine.engine import Engine
from lightbus.engine.node import Node
from lightbus.membership.context import Identity
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

AT_ONCE = 500 * MS


class Place:
    """Engines that find each other in memory."""

    def __init__(self, directory: Path) -> None:
        self.hub = MemoryHub()
        self.directory = directory
        self.engines: list[Engine] = []

    def engine(self, wait: float = 0.2) -> Engine:
        """Return an engine of a separate process."""
        config = load_config({"discovery": {"wait": wait}})
        identity = Identity(bus="b", service="shop", process="p")
        made = Engine(config, identity, discovery=lambda bus: MemoryDiscovery(bus, self.hub), directory=self.directory)
        self.engines.append(made)
        return made

    async def serve(self, engine: Engine, *apis: str) -> Node:
        """Let an engine serve APIs on the running loop."""
        node = await engine.loop_host.adopt(lambda: None)
        me = engine.identity
        infos = tuple(ApiInfo(name=name) for name in apis)
        said = Announcement(
            bus="b", instance=me.instance, service=me.service, process=me.process, host=me.host, apis=infos
        )
        await node.bind(lambda endpoints: said, no_handlers).announce()
        return node


@pytest.fixture
def place(surroundings: Surroundings) -> Iterator[Place]:
    """Return a place for engines; they are closed in the end."""
    made = Place(surroundings.runtime)
    yield made
    for engine in made.engines:
        engine.close()


@contextmanager
def another_loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a loop in a thread; return a function that runs a coroutine on it and returns its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def engine_threads() -> list[threading.Thread]:
    """Return the threads that engines run in."""
    return [thread for thread in threading.enumerate() if thread.name == "lightbus-engine"]


# In a thread


def test_an_unused_engine_starts_nothing(place: Place) -> None:
    """An engine that is not used has neither a thread nor a node."""
    before = threading.active_count()
    engine = place.engine()
    assert threading.active_count() == before
    assert not engine.is_running
    assert engine.node is None


def test_first_use_starts_one_thread(place: Place) -> None:
    """However many threads use an engine first at the same time, there is one node, on one loop."""
    engine = place.engine()
    with ThreadPoolExecutor(16) as threads:
        places = set(threads.map(lambda _: engine.loop_host.ensure(), range(16)))
    assert len(places) == len(engine_threads()) == 1
    assert engine.is_running


def test_start_that_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in making a node is raised at its first use; the next use tries again."""
    engine = place.engine()
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "make_node", lambda engine: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.loop_host.ensure()
    assert not engine.is_running
    assert engine.loop_host.ensure()[0] is engine.node


def test_discovery_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow start of discovery delays neither the first use nor requests that need no discovery."""
    other, engine = place.engine(), place.engine(wait=5.0)
    began, resolved = threading.Event(), threading.Event()

    async def slow(discovery: MemoryDiscovery, found: Any, lost: Any) -> None:
        began.set()
        await asyncio.to_thread(resolved.wait)

    async def main() -> None:
        node = await place.serve(other, "auth")
        assert node.presence is not None
        endpoint = f"ipc://{place.directory}/{other.identity.instance}.rpc"
        engine.config = engine.config.model_copy(
            update={"discovery": engine.config.discovery.model_copy(update={"peers": [endpoint]})}
        )
        monkeypatch.setattr(MemoryDiscovery, "start", slow)
        try:
            await engine.resolve("auth", Deadline.after(LEAST))
            assert began.is_set()
        finally:
            resolved.set()
        await other.loop_host.release()

    asyncio.run(main())


def test_loop_that_does_not_answer(place: Place) -> None:
    """A search whose loop is blocked ends soon after its deadline, with an error that says so."""
    engine = place.engine()

    ended = threading.Event()

    async def block(node: Node) -> None:
        ended.wait()

    blocked = engine.loop_host.run(block)
    with pytest.raises(
        LightbusTimeout, match=r"event loop did not answer while 'auth' was looked for\. Does a handler"
    ):
        engine.resolve_blocking("auth", Deadline.after(0.1))
    ended.set()
    blocked.result()


# On the user's loop, and back


def test_node_moves_to_the_loop_and_back(place: Place) -> None:
    """`adopt` ends the thread, `release` leaves the loop, and the next use starts a thread; no peer is forgotten."""
    other, engine = place.engine(), place.engine()

    async def main() -> None:
        await place.serve(other, "auth")
        await engine.resolve("auth", Deadline.after(5))
        assert len(engine_threads()) == 1
        await engine.loop_host.adopt(lambda: None)
        assert engine.loop_host.ensure()[1] is asyncio.get_running_loop()
        assert engine_threads() == []
        assert "auth" in engine.snapshot.by_api  # without a look
        await engine.loop_host.release()
        assert not engine.is_running
        assert engine.snapshot.by_api == {}  # who asks starts a thread
        assert engine.snapshot.is_up(other.identity.instance)  # and what is on its way is not lost
        await engine.resolve("auth", Deadline.after(5))
        assert len(engine_threads()) == 1
        await other.loop_host.release()

    asyncio.run(main())


def test_a_former_worker_gets_a_new_instance(place: Place) -> None:
    """An instance that others have seen leave does not return: the next worker has a new one."""
    engine = place.engine()

    async def main() -> None:
        first = engine.identity.instance
        await engine.loop_host.adopt(lambda: None)
        await engine.loop_host.release()
        await place.serve(engine, "auth")
        assert engine.identity.instance == first  # it has told nobody of itself before
        await engine.loop_host.release()
        await place.serve(engine, "auth")
        assert engine.identity.instance != first
        await engine.loop_host.release()

    asyncio.run(main())


def test_the_owner_is_told_when_the_node_leaves(place: Place) -> None:
    """The code that put the node on a loop is told when it goes: by `release`, with the loop, and at the end."""
    engine = place.engine()
    left: list[str] = []

    async def main(name: str, *, release: bool) -> None:
        await engine.loop_host.adopt(lambda: left.append(name))
        if release:
            await engine.loop_host.release()
            await engine.loop_host.release()

    asyncio.run(main("release", release=True))
    asyncio.run(main("loop", release=False))
    with another_loop() as run:
        run(main("end", release=False))
        engine.close()
    assert left == ["release", "loop", "end"]


def test_loop_that_was_just_closed(place: Place) -> None:
    """It is detected at the next use, and the sockets that it left open are closed."""
    engine, left = place.engine(), []
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await place.serve(engine, "auth")
        engine.loop_host._on_left = lambda: left.append("left")
        for task in asyncio.all_tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio complains, and rightly

    loop.run_until_complete(main())
    loop.close()
    assert engine.loop_host.ensure()[1] is not loop
    assert left == ["left"]
    assert list(place.directory.iterdir()) == []
    gc.collect()  # tasks of a closed loop


def test_a_loop_that_calls_again_has_its_node(place: Place) -> None:
    """A loop gets the same channel each time, and a node is started for it if the previous one has ended."""
    engine = place.engine()

    async def main() -> None:
        first = engine.caller()
        assert engine.caller() is first
        loop = asyncio.new_event_loop()
        await asyncio.to_thread(loop.run_until_complete, engine.loop_host.adopt(lambda: None))
        await asyncio.to_thread(loop.run_until_complete, engine.loop_host.release())
        loop.close()
        assert not engine.is_running
        assert engine.caller() is first
        assert engine.is_running

    asyncio.run(main())


def test_one_loop_at_a_time(place: Place) -> None:
    """While one loop has the node, an attempt of another loop is an error."""
    engine = place.engine()

    async def main() -> None:
        await engine.loop_host.adopt(lambda: None)
        with another_loop() as run, pytest.raises(UnsupportedUse, match="on another event loop"):
            await asyncio.to_thread(run, engine.loop_host.adopt(lambda: None))
        await engine.loop_host.release()

    asyncio.run(main())


def test_searches_survive_a_move(place: Place) -> None:
    """Searches, blocking and not, continue at the next node, and find peers that come later."""
    engine, other = place.engine(wait=20.0), place.engine()

    async def main() -> None:
        deadline = Deadline.after(20)
        with another_loop() as run:
            searches = [
                asyncio.create_task(engine.resolve("auth", deadline)),
                asyncio.create_task(asyncio.to_thread(engine.resolve_blocking, "auth", deadline)),
                asyncio.create_task(asyncio.to_thread(engine.questions.wait_for_blocking, ["auth"], deadline)),
                asyncio.create_task(asyncio.to_thread(run, engine.questions.wait_for(["auth"], deadline))),
            ]
            for _ in range(3):
                await asyncio.sleep(20 * MS)
                await engine.loop_host.adopt(lambda: None)
                await asyncio.sleep(20 * MS)
                await engine.loop_host.release()
            await place.serve(other, "auth")
            assert await asyncio.gather(*searches) == [None, None, [], []]
        await other.loop_host.release()

    asyncio.run(main())


def test_cancelled_search_is_not_repeated(place: Place) -> None:
    """A search whose task is cancelled ends, and is not started again."""
    engine = place.engine(wait=20.0)

    async def main() -> None:
        search = asyncio.create_task(engine.resolve("auth", Deadline.after(20)))
        await wait_until_async(lambda: engine.is_running)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    asyncio.run(main())


def test_moves_and_uses_at_the_same_time(place: Place) -> None:
    """Threads that use an engine while it moves always reach a running node, and never make a second one."""
    engine, other = place.engine(wait=60.0), place.engine()  # however long it takes to see `auth` from a new place
    stop = threading.Event()
    used = [0]

    def use() -> None:
        while not stop.is_set():
            engine.resolve_blocking("auth", Deadline.after(60))
            used[0] += 1

    async def main() -> None:
        await place.serve(other, "auth")
        with ThreadPoolExecutor(4) as threads:
            users = [threads.submit(use) for _ in range(4)]
            for _ in range(scaled(200, least=10)):
                await engine.loop_host.adopt(lambda: None)
                assert engine_threads() == []
                await asyncio.sleep(0.001)
                await engine.loop_host.release()
                before = used[0]
                await wait_until_async(lambda before=before: used[0] > before)  # type: ignore[misc]
            stop.set()
            for user in users:  # whoever looks for `auth` meanwhile needs this loop
                await asyncio.wrap_future(user)
        await other.loop_host.release()

    asyncio.run(main())


# The end


def test_closed_engine_refuses_and_can_be_closed_again(place: Place) -> None:
    """A closed engine raises an error at each use, and can be closed again."""
    engine = place.engine()
    engine.loop_host.ensure()
    engine.close()
    engine.close()
    for use in (engine.loop_host.ensure, lambda: engine.resolve_blocking("auth", Deadline.after(1))):
        with pytest.raises(BusAlreadyClosed):
            use()
    with pytest.raises(BusAlreadyClosed):
        asyncio.run(engine.loop_host.adopt(lambda: None))


def test_closing_ends_searches(place: Place) -> None:
    """A search for a name ends with an error at once when the engine is closed."""
    engine = place.engine(wait=LEAST)
    with ThreadPoolExecutor(2) as threads:
        searches = [
            threads.submit(engine.resolve_blocking, "auth", Deadline.after(LEAST)),
            threads.submit(lambda: asyncio.run(engine.resolve("auth", Deadline.after(LEAST)))),
        ]
        wait_until(lambda: engine.node is not None and len(engine.node.lookup._waiters) == 2)
        engine.close()
        for search in searches:
            with pytest.raises((LightbusShutdownInProgress, BusAlreadyClosed)):  # and no UnknownApi, after the wait
                search.result()


def test_closing_on_the_loop(place: Place) -> None:
    """`close_async` closes a node on its own loop; the channel of another loop is closed there."""
    engine = place.engine()

    async def main() -> None:
        await engine.loop_host.adopt(lambda: None)
        with another_loop() as run:
            await asyncio.to_thread(run, use(engine))
            engine.caller()
            await engine.close_async()
        assert not engine.is_running

    async def use(engine: Engine) -> None:
        engine.caller()

    asyncio.run(main())


def test_closing_at_exit_leaves_running_loops_alone(place: Place) -> None:
    """At the end of the interpreter, a running loop keeps its node; later everything can be closed."""
    engine = place.engine()

    async def use() -> None:
        await engine.loop_host.adopt(lambda: None)

    with another_loop() as run:
        run(use())
        engine.close(at_exit=True)
        assert engine.is_running
        run(engine.loop_host.release())
    engine.transport.close()


def test_closing_while_the_loop_is_busy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing does not wait for a busy loop, ours or the user's; the last one closes the transport."""
    monkeypatch.setattr("lightbus.engine.loop_host.STOP_TIMEOUT", 0.01)
    monkeypatch.setattr("lightbus.rpc.channels.CLOSE_TIMEOUT", 0.01)
    engine, proceed, closed = place.engine(), threading.Event(), threading.Event()

    def close(close_now: Callable[[], None] = engine.transport.close) -> None:
        close_now()
        closed.set()

    monkeypatch.setattr(engine.transport, "close", close)
    with another_loop() as run:
        run(called(engine))
        _, own = engine.loop_host.ensure()
        for loop in (own, run(running_loop())):
            loop.call_soon_threadsafe(proceed.wait, 60)
        engine.close()
        assert not closed.is_set()
        proceed.set()
        assert closed.wait(60)


async def called(engine: Engine) -> None:
    engine.caller()


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


# Whole buses


class Work(Api):
    class Meta:
        name = "work"

    async def get(self) -> int:
        return 7


def test_two_loops_and_a_thread_share_an_engine(surroundings: Surroundings) -> None:
    """Loops one after the other, loops in several threads, and plain threads use one engine, each with a channel."""
    server, bus = lightbus.create(service_name="server"), lightbus.create(service_name="caller")
    server.client.register_api(Work())
    server.client.start_in_background()
    try:
        for _ in range(3):
            assert asyncio.run(bus.work.get.call_async()) == 7
        with ThreadPoolExecutor(4) as threads:
            calls: list[Callable[[], int]] = [bus.work.get, lambda: asyncio.run(bus.work.get.call_async())] * 10
            assert {call.result() for call in [threads.submit(call) for call in calls]} == {7}
        assert len(engine_threads()) == 1
        with pytest.raises(UnknownApi):
            bus.nothing.get()
    finally:
        bus.client.close()
        server.client.close()
