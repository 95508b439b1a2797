"""Where a node runs: in a thread at first use, on the user's loop if it is put there, and never in two places."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from helpers import MS, wait_until
from lightbus.core.registry import Peer
from lightbus.engine import loop_host
from lightbus.engine.loop_host import LoopHost
from lightbus.exceptions import BusAlreadyClosed, LightbusTimeout, TransportError, UnsupportedUse
from lightbus.interrupts import interruptible


class FakeNode:
    """A node that records what happens to it."""

    def __init__(self, number: int, fails: bool) -> None:
        self.number = number
        self.happened: list[str] = []
        self.presence = None
        self._fails = fails

    async def start(self) -> None:
        self.happened.append("started")
        if self._fails:
            raise OSError("no room")

    def retire(self) -> Sequence[Peer]:
        self.happened.append("retired")
        return ()

    async def stop(self) -> None:
        self.happened.append("stopped")

    def abandon(self) -> None:
        self.happened.append("abandoned")

    async def thread(self) -> str:
        """Return the name of the present thread."""
        return threading.current_thread().name


class FakeOwner:
    """Makes nodes, and counts those that left."""

    def __init__(self) -> None:
        self.made: list[FakeNode] = []
        self.left = 0
        self.fails = False

    def make_node(self) -> Any:
        self.made.append(FakeNode(len(self.made), self.fails))
        return self.made[-1]

    def node_left(self, known: Sequence[Peer], *, served: bool) -> None:
        self.left += 1


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


@pytest.fixture
def host(owner: FakeOwner) -> Iterator[LoopHost]:
    made = LoopHost(owner)
    yield made
    made.close()
    made.stop(at_exit=False)


def where(host: LoopHost) -> str:
    """Return the thread that the node runs in."""
    return host.run(lambda node: node.thread()).result(60)  # type: ignore[attr-defined]


def test_first_use_starts_a_thread(host: LoopHost, owner: FakeOwner) -> None:
    """Before that there is none; afterwards it is the same node."""
    assert (host.node, host.is_running) == (None, False)
    assert where(host) == "lightbus-engine"
    node, loop = host.ensure()
    assert host.ensure() == (node, loop)
    assert (len(owner.made), host.node, host.is_running) == (1, node, True)


def test_node_moves_to_the_users_loop_and_back(host: LoopHost, owner: FakeOwner) -> None:
    """The new one exists before the old one goes; after the release, the next use starts one in a thread."""
    left: list[str] = []
    where(host)

    async def main() -> None:
        await host.adopt(lambda: left.append("left"))
        assert await asyncio.wrap_future(host.run(lambda node: node.thread())) == "MainThread"  # type: ignore[attr-defined]
        assert owner.made[0].happened == ["started", "retired", "stopped"]
        with pytest.raises(UnsupportedUse, match="has a worker on another event loop"):
            await host.adopt(lambda: None)
        await host.release()

    asyncio.run(main())
    assert (left, owner.made[1].happened) == (["left"], ["started", "retired", "stopped"])
    assert where(host) == "lightbus-engine"
    assert len(owner.made) == 3


def test_node_settles_on_a_loop(host: LoopHost, owner: FakeOwner) -> None:
    """It moves from its thread once, and stays for the next use."""
    where(host)

    async def main() -> None:
        node = await host.settle()
        assert await host.settle() is node is host.node
        assert await asyncio.wrap_future(host.run(lambda node: node.thread())) == "MainThread"  # type: ignore[attr-defined]

    asyncio.run(main())
    assert [each.happened for each in owner.made] == [["started", "retired", "stopped"]] * 2


def test_node_stops_with_its_loop(host: LoopHost, owner: FakeOwner) -> None:
    """A program that ends its loop without a stop leaves no node that others would still call."""
    left: list[str] = []

    async def main() -> None:
        await host.adopt(lambda: left.append("left"))

    asyncio.run(main())
    assert (left, host.node, owner.made[0].happened[-1]) == (["left"], None, "stopped")


def test_node_of_a_closed_loop_is_abandoned(host: LoopHost, owner: FakeOwner) -> None:
    """Its node is abandoned at the next use."""
    left: list[str] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(host.adopt(lambda: left.append("left")))
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # its loop is closed below it
    loop.close()
    assert not host.is_running
    assert where(host) == "lightbus-engine"
    assert (owner.made[0].happened, left) == (["started", "abandoned"], ["left"])
    del task, loop
    gc.collect()


def test_node_that_cannot_start_on_the_users_loop(host: LoopHost, owner: FakeOwner) -> None:
    """The caller gets the error, and the node is removed from the loop."""
    owner.fails = True

    async def main() -> None:
        with pytest.raises(OSError, match="no room"):
            await host.adopt(lambda: None)

    asyncio.run(main())
    assert (host.node, owner.left) == (None, 1)


def test_node_that_cannot_start_in_its_thread(
    host: LoopHost, owner: FakeOwner, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for that, so it is logged; the node stays, since fixed peers need no discovery."""
    owner.fails = True
    host.ensure()
    wait_until(lambda: "The discovery of peers did not start" in caplog.text)
    assert "no room" in caplog.text
    assert host.node is not None


def test_no_use_after_the_end(host: LoopHost, owner: FakeOwner) -> None:
    """It ends once; the thread is gone, and its node stopped."""
    where(host)
    assert (host.close(), host.close()) == (True, False)
    assert host.stop(at_exit=False) == []
    wait_until(lambda: owner.made[0].happened == ["started", "retired", "stopped"])
    with pytest.raises(BusAlreadyClosed):
        host.ensure()


def test_loop_is_paused_for_a_fork(host: LoopHost) -> None:
    """Nothing runs on it until it is resumed."""
    where(host)
    proceed = host.pause(5.0)
    future = host.run(lambda node: node.thread())  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        future.result(0.05)
    proceed()
    assert future.result(60) == "lightbus-engine"


@pytest.mark.parametrize("moment", ["before the thread", "after the thread", "node"])
def test_interrupt_while_a_node_is_made(
    host: LoopHost, owner: FakeOwner, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whenever it comes, the next use finds the only node, and nothing is left in use at the end."""
    main, make, start = threading.get_ident(), owner.make_node, threading.Thread.start
    once = iter([moment])

    def interrupt(now: str) -> None:
        if now == moment and next(once, ""):
            signal.pthread_kill(main, signal.SIGINT)
            if threading.get_ident() != main:
                time.sleep(100 * MS)  # the main thread is interrupted meanwhile

    def make_slowly() -> Any:
        interrupt("node")
        return make()

    def start_slowly(thread: threading.Thread) -> None:
        interrupt("before the thread")
        start(thread)
        interrupt("after the thread")

    monkeypatch.setattr(owner, "make_node", make_slowly)
    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    with pytest.raises(KeyboardInterrupt):
        host.ensure()
    node, _ = host.ensure()
    assert owner.made == [node]
    assert host.stop(at_exit=False) == []


@pytest.mark.parametrize("next_use", ["thread", "loop", "end"])
def test_start_that_stands_still(
    host: LoopHost, owner: FakeOwner, monkeypatch: pytest.MonkeyPatch, next_use: str
) -> None:
    """Who waits for it is told; whatever comes next waits for the same start, so that there is one node at a time."""
    make, go = owner.make_node, threading.Event()

    def make_late() -> Any:
        if not owner.made:
            go.wait()
        return make()

    monkeypatch.setattr(owner, "make_node", make_late)
    with monkeypatch.context() as patch:
        patch.setattr(loop_host, "START_TIMEOUT", 0.05)
        with pytest.raises(LightbusTimeout, match=r"did not start within 0\.05 s, and nothing was sent"):
            host.ensure()
    timer = threading.Timer(100 * MS, go.set)
    timer.start()
    if next_use == "thread":
        assert (host.ensure()[0], where(host)) == (host.node, "lightbus-engine")
    elif next_use == "loop":
        assert asyncio.run(host.adopt(lambda: None)) is owner.made[1]
    else:
        assert (host.close(), host.stop(at_exit=False)) == (True, [])
    timer.join()
    assert len(owner.made) == (2 if next_use == "loop" else 1)
    if next_use != "thread":
        assert owner.made[0].happened == ["started", "retired", "stopped"]


def test_start_that_ends_as_the_time_does(host: LoopHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node is taken."""

    def too_late(wait: Callable[..., Any], *args: object) -> Any:
        result = interruptible(wait, *args)
        if args:
            raise TimeoutError
        return result

    monkeypatch.setattr(loop_host, "interruptible", too_late)
    assert host.ensure()[0] is host.node


def test_thread_that_can_have_no_loop(host: LoopHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no descriptor is free, for example: who starts it is told why, and the next use starts another one."""

    def refused() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", refused)
        patch.setattr(asyncio.runners.events, "new_event_loop", refused)
        with pytest.raises(TransportError, match=r"cannot run an event loop: .*Too many open files.*ulimit -n"):
            host.ensure()
    assert where(host) == "lightbus-engine"
