"""Where the node of an engine lives, on a loop in a thread of its own or on the user's, and how it moves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextvars import Context
from typing import Any, Protocol, TypeVar

from ..core.registry import Peer
from ..exceptions import BusAlreadyClosed, UnsupportedUse
from .node import Node

__all__ = ["LoopHost", "Owner", "standing_still"]

T = TypeVar("T")

START_TIMEOUT = 10.0
STOP_TIMEOUT = 3.0
LONGEST_PAUSE = 5.0
LOOK_EVERY = 0.01


class Owner(Protocol):
    """The owner of the node: the engine. Called by the thread that moves it, one at a time."""

    def make_node(self) -> Node:
        """Return a node for the running loop, which continues with what the previous one knew."""

    def node_left(self, known: Sequence[Peer], *, served: bool) -> None:
        """Record that there is no node now, which peers it saw up, and whether it was a worker's."""


class LoopHost:
    """
    The loop that a node is on. The node is made at first use, and there is never more than one that counts.

    Any thread may use it. When a node moves the new one is there before the old one goes, so that whoever is sent on
    by that one finds it.
    """

    def __init__(self, owner: Owner) -> None:
        self.closed = False
        self._owner = owner
        self._lock = threading.RLock()  # over the fields below, and whatever moves the node
        self.place: tuple[Node, asyncio.AbstractEventLoop] | None = None
        """The node and its loop, which may be closed."""
        self._guard: asyncio.Task[None] | None = None
        self._on_left: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._in_use: list[Future[None]] = []  # done when a thread's node uses its sockets no more
        self._stop_thread: asyncio.Event | None = None

    @property
    def node(self) -> Node | None:
        """The node, where there is one."""
        return None if self.place is None else self.place[0]

    @property
    def is_running(self) -> bool:
        """Whether there is a node, on a loop that is not closed."""
        return self.place is not None and not self.place[1].is_closed()

    def ensure(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        """Return the node and its loop; start them in a thread where there is none. Raises BusAlreadyClosed."""
        place = self.place
        if place is not None and not place[1].is_closed():
            return place
        with self._lock:
            self._check_open()
            self._leave_closed_loop()
            return self.place or self._start_thread()

    def run(self, make: Callable[[Node], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the node's loop. From any thread."""
        while True:
            node, loop = self.ensure()
            coroutine = make(node)
            try:
                # Not in the caller's context: the node outlives the call, and does not belong to the caller.
                return Context().run(asyncio.run_coroutine_threadsafe, coroutine, loop)
            except RuntimeError:  # closed just now
                coroutine.close()

    # On the user's loop

    async def adopt(self, on_left: Callable[[], None]) -> Node:
        """
        Put the node on the running loop, and return it; a thread that had it ends.

        It leaves with the loop (`asyncio.run` cancels the tasks that remain), so that no caller waits for a dead loop.
        `on_left` is called when it has gone, for this reason or another; where the loop is closed, in any thread.
        """
        with self._lock:
            self._check_open()
            self._leave_closed_loop()
            if self.place is not None and self._thread is None:
                raise UnsupportedUse("This bus has a worker on another event loop. Stop that one first.")
            thread = self._dismiss_thread()
            node, _ = self._move_in()
            self._on_left = on_left
        self._guard = asyncio.get_running_loop().create_task(self._go_with_the_loop(node))
        try:
            if thread is not None:
                await asyncio.to_thread(thread.join, STOP_TIMEOUT)
            await node.start()
        except BaseException:
            await self.release()
            raise
        return node

    async def release(self) -> None:
        """Take the node off the running loop; the next use starts one in a thread."""
        if (node := self.node) is not None:
            await self._release(node)

    async def _release(self, node: Node) -> None:
        with self._lock:
            known = node.retire()
            if self.node is node:
                self._move_out(node, known)
        await node.stop()

    async def _go_with_the_loop(self, node: Node) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self.node is node:
                self._guard = None
                await self._release(node)

    def _leave_closed_loop(self) -> None:
        if self.place is not None and self.place[1].is_closed():
            self._abandon(self.place[0])

    def _abandon(self, node: Node) -> None:
        self._guard = None  # its loop does not run
        self._move_out(node, ())
        node.abandon()

    def _move_in(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        place = self.place = self._owner.make_node(), asyncio.get_running_loop()
        return place

    def _move_out(self, node: Node, known: Sequence[Peer]) -> None:
        self.place = None
        self._owner.node_left(known, served=node.presence is not None)
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.cancel()
        on_left, self._on_left = self._on_left, None
        if on_left is not None:
            on_left()

    # In a thread of its own

    def _start_thread(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        ready: Future[tuple[Node, asyncio.AbstractEventLoop]] = Future()
        in_use: Future[None] = Future()
        self._in_use = [*filter(_is_pending, self._in_use), in_use]

        def live() -> None:
            try:
                asyncio.run(self._live_in_thread(ready))
            finally:
                in_use.set_result(None)

        self._thread = threading.Thread(target=live, name="lightbus-engine", daemon=True)
        self._thread.start()
        return ready.result(START_TIMEOUT)

    async def _live_in_thread(self, ready: Future[tuple[Node, asyncio.AbstractEventLoop]]) -> None:
        try:
            stop = self._stop_thread = asyncio.Event()
            node, loop = self._move_in()
        except BaseException as error:
            ready.set_exception(error)
            return
        # Discovery takes a moment (its imports, too), and nobody has to wait for it: whoever looks for a name does.
        start = asyncio.create_task(node.start())
        ready.set_result((node, loop))
        await stop.wait()
        with contextlib.suppress(Exception):
            await start
        await self._release(node)

    def _dismiss_thread(self) -> threading.Thread | None:
        """Ask the thread to end, and return it; None where there is none."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or self.place is None or self._stop_thread is None:
                return None
            with contextlib.suppress(RuntimeError):
                self.place[1].call_soon_threadsafe(self._stop_thread.set)
            return thread

    def pause(self, seconds: float) -> Callable[[], None]:
        """
        Pause the node's loop in its thread, and return the function that resumes it: for a fork.

        A fork while another thread imports or writes would leave a lock in the child that is never released.
        Gives up after so many seconds: a fork may be risky, but must not hang.
        """
        still, go_on = threading.Event(), threading.Event()
        is_locked = self._lock.acquire(timeout=seconds)  # no node is being made

        def stand_still() -> None:
            still.set()
            go_on.wait(LONGEST_PAUSE)

        def resume() -> None:
            go_on.set()
            if is_locked:
                self._lock.release()

        place = self.place
        if place is not None and place[1].is_running() and place[1] is not asyncio._get_running_loop():
            with contextlib.suppress(RuntimeError):  # closed just now
                place[1].call_soon_threadsafe(stand_still)
                _wait_until_still(place[1], still, seconds)
        return resume

    # The end

    def close(self) -> bool:
        """Accept no caller any more; return whether this is the first time."""
        with self._lock:
            was_open, self.closed = not self.closed, True
        return was_open

    def stop(self, *, at_exit: bool) -> list[Future[None]]:
        """
        Have the node leave, wherever it is; return what is done once nobody uses its sockets any more. Bounded.

        That is nothing, mostly: a loop that is busy for longer than `STOP_TIMEOUT` leaves when it comes to it. From a
        plain thread. With `at_exit` the node stays on a loop that is not ours and runs.
        """
        thread = self._dismiss_thread()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT)
        in_use = self._in_use
        place = self.place
        if place is not None and not place[1].is_running():
            self._abandon(place[0])
        elif place is not None and thread is None:
            released: Future[None] = Future()
            if not at_exit:
                released = asyncio.run_coroutine_threadsafe(self._release(place[0]), place[1])
                with contextlib.suppress(TimeoutError, CancelledError):
                    released.result(STOP_TIMEOUT)
            in_use = [*in_use, released]
        return [*filter(_is_pending, in_use)]

    def _check_open(self) -> None:
        if self.closed:
            raise BusAlreadyClosed("The bus was closed. Make a new one with lightbus.create().")


_STANDING: set[asyncio.AbstractEventLoop] = set()
"""Loops whose threads wait for the fork of another thread, before one of their own."""


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """Have the loop that runs in this thread, if one does, count as standing still for the forks of other threads."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    _STANDING.add(loop)
    try:
        yield
    finally:
        _STANDING.discard(loop)


def _wait_until_still(loop: asyncio.AbstractEventLoop, still: threading.Event, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not still.wait(LOOK_EVERY) and loop not in _STANDING and time.monotonic() < until:
        pass


def _is_pending(future: Future[None]) -> bool:
    return not future.done()
