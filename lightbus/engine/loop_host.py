"""The event loop that the node of an engine runs on: in a thread of its own, or the user's; and moves between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextvars import Context
from typing import Any, Protocol, TypeVar

from ..core.registry import Peer
from ..exceptions import BusAlreadyClosed, LightbusTimeout, TransportError, UnsupportedUse
from ..interrupts import interruptible
from ..service.failures import report
from .node import Node

__all__ = ["LoopHost", "Owner", "paused_for_fork"]

logger = logging.getLogger("lightbus.node")

T = TypeVar("T")

START_TIMEOUT = 10.0
STOP_TIMEOUT = 3.0
LONGEST_PAUSE = 5.0
POLL_EVERY = 0.01


class Owner(Protocol):
    """The owner of the node: the engine. Called by the thread that moves the node, one at a time."""

    def make_node(self) -> Node:
        """Return a node for the running loop; it starts with the peers that the previous node knew."""

    def node_left(self, known: Sequence[Peer], *, served: bool) -> None:
        """Record that the node is gone: the peers that it saw up, and whether it `served` as a worker."""


class LoopHost:
    """
    The loop that the node runs on. The node is made at first use, and only one at a time is in `place`.

    Thread-safe. When the node moves, the new one is in place before the old one stops, so that calls that the old one
    turns away find the new one.
    """

    def __init__(self, owner: Owner) -> None:
        self.closed = False
        self._owner = owner
        self._lock = threading.RLock()  # guards the fields below, and is held while the node moves
        self.place: tuple[Node, asyncio.AbstractEventLoop] | None = None
        """The node and its loop, which may be closed."""
        self._guard: asyncio.Task[None] | None = None
        self._on_left: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._ready: Future[tuple[Node, asyncio.AbstractEventLoop]] | None = None  # of the latest start in a thread
        self._in_use: list[Future[None]] = []  # each is done when the node in a thread has closed its sockets
        self._stop_thread: asyncio.Event | None = None

    @property
    def node(self) -> Node | None:
        """The node, if there is one."""
        return None if self.place is None else self.place[0]

    @property
    def is_running(self) -> bool:
        """Whether there is a node, and its loop is not closed."""
        return self.place is not None and not self.place[1].is_closed()

    def ensure(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        """Return the node and its loop; start them in a thread if there is none. Raises BusAlreadyClosed."""
        place = self.place
        if place is not None and not place[1].is_closed():
            return place
        with self._lock:
            self._check_open()
            self._drop_node_of_closed_loop()
            return self.place or self._start_thread()

    def run(self, make: Callable[[Node], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the node's loop. Thread-safe."""
        while True:
            node, loop = self.ensure()
            coroutine = make(node)
            try:
                # Not in the caller's context: the node outlives the call, and must not keep the caller's variables.
                return Context().run(asyncio.run_coroutine_threadsafe, coroutine, loop)
            except RuntimeError:  # the loop was closed just now
                coroutine.close()

    # On the user's loop

    async def adopt(self, on_left: Callable[[], None]) -> Node:
        """
        Move the node to the running loop, and return it; if it ran in a thread, that thread ends.

        The node stops when the loop ends (`asyncio.run` cancels the remaining tasks), so that no caller waits for a
        dead loop. `on_left` is called when the node has gone, for whatever reason; after the loop was closed, from any
        thread.
        """
        with self._lock:
            self._check_open()
            self._drop_node_of_closed_loop()
            if self.place is not None and self._thread is None:
                raise UnsupportedUse("This bus has a worker on another event loop. Stop that one first.")
            thread = self._stop_own_thread()
            node, _ = self._install_node()
            self._on_left = on_left
        self._guard = asyncio.get_running_loop().create_task(self._stop_with_loop(node))
        try:
            if thread is not None:
                await asyncio.to_thread(thread.join, STOP_TIMEOUT)
            await node.start()
        except BaseException:
            await self.release()
            raise
        return node

    async def settle(self) -> Node:
        """Return the node on the running loop; move it here, as `adopt` does, if it runs in a thread, or not at all."""
        place = self.place
        if place is not None and place[1] is asyncio.get_running_loop():
            return place[0]
        return await self.adopt(lambda: None)

    async def release(self) -> None:
        """Stop the node on the running loop; the next use starts one in a thread."""
        if (node := self.node) is not None:
            await self._release(node)

    async def _release(self, node: Node) -> None:
        with self._lock:
            known = node.retire()
            if self.node is node:
                self._remove_node(node, known)
        await node.stop()

    async def _stop_with_loop(self, node: Node) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self.node is node:
                self._guard = None
                await self._release(node)

    def _drop_node_of_closed_loop(self) -> None:
        if self.place is not None and self.place[1].is_closed():
            self._abandon(self.place[0])

    def _abandon(self, node: Node) -> None:
        self._guard = None  # its loop does not run
        self._remove_node(node, ())
        node.abandon()

    def _install_node(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        place = self.place = self._owner.make_node(), asyncio.get_running_loop()
        return place

    def _remove_node(self, node: Node, known: Sequence[Peer]) -> None:
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
        if self._ready is not None and not self._ready.done():
            return _started(self._ready)  # an earlier use gave up waiting for it: a further thread makes a second node
        ready = self._ready = Future()
        in_use: Future[None] = Future()
        self._in_use = [*filter(_is_pending, self._in_use), in_use]

        def run_node() -> None:
            if not ready.set_running_or_notify_cancel():
                return  # the start was interrupted
            running = self._run_in_thread(ready)
            try:
                asyncio.run(running)
            except BaseException as error:
                if ready.done():
                    raise
                running.close()
                ready.set_exception(_no_loop(error))  # or the next uses would wait for this start for ever
            finally:
                in_use.set_result(None)

        self._thread = threading.Thread(target=run_node, name="lightbus-engine", daemon=True)
        try:
            interruptible(self._thread.start)
            return _started(ready)
        except BaseException as error:
            if ready.cancel():
                in_use.set_result(None)
            elif not isinstance(error, Exception):
                # The node is made all the same, and the next use must not make another.
                interruptible(wait, [ready], START_TIMEOUT)
            raise

    async def _run_in_thread(self, ready: Future[tuple[Node, asyncio.AbstractEventLoop]]) -> None:
        try:
            stop = self._stop_thread = asyncio.Event()
            node, loop = self._install_node()
        except BaseException as error:
            ready.set_exception(error)
            return
        # Discovery takes time to start (imports, too). Only calls that look for an API wait for it.
        start = asyncio.create_task(node.start())
        start.add_done_callback(_report_failure)
        ready.set_result((node, loop))
        await stop.wait()
        with contextlib.suppress(Exception):
            await start
        await self._release(node)

    def _stop_own_thread(self) -> threading.Thread | None:
        """Ask the thread to end, and return it; None if there is none."""
        with self._lock:
            if self._ready is not None and not self._ready.done():  # it would make its node beside the next one
                wait([self._ready], START_TIMEOUT)
            thread, self._thread = self._thread, None
            if thread is None or self.place is None or self._stop_thread is None:
                return None
            with contextlib.suppress(RuntimeError):
                self.place[1].call_soon_threadsafe(self._stop_thread.set)
            return thread

    def pause(self, seconds: float) -> Callable[[], None]:
        """
        Pause the node's loop for a fork, and return the function that resumes it.

        A fork while another thread imports or writes would leave a lock in the child that is never released.
        Gives up after so many seconds: an unsafe fork is better than one that hangs.
        """
        paused, resumed = threading.Event(), threading.Event()
        is_locked = self._lock.acquire(timeout=seconds)  # so that no node is being made

        def block_loop() -> None:
            paused.set()
            resumed.wait(LONGEST_PAUSE)

        def resume() -> None:
            resumed.set()
            if is_locked:
                self._lock.release()

        place = self.place
        if place is not None and place[1].is_running() and place[1] is not asyncio._get_running_loop():
            with contextlib.suppress(RuntimeError):  # the loop was closed just now
                place[1].call_soon_threadsafe(block_loop)
                _wait_until_paused(place[1], paused, seconds)
        return resume

    # The end

    def close(self) -> bool:
        """Refuse further use; return whether this is the first call."""
        with self._lock:
            was_open, self.closed = not self.closed, True
        return was_open

    def stop(self, *, at_exit: bool) -> list[Future[None]]:
        """
        Stop the node on whichever loop it runs; bounded. Call it from a plain thread.

        Return a future for each loop that still uses the node's sockets, usually none: a loop that is busy for longer
        than `STOP_TIMEOUT` stops the node later. With `at_exit`, a node on a running loop of the user is not stopped.
        """
        thread = self._stop_own_thread()
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
                    interruptible(released.result, STOP_TIMEOUT)
            in_use = [*in_use, released]
        return [*filter(_is_pending, in_use)]

    def _check_open(self) -> None:
        if self.closed:
            raise BusAlreadyClosed("The bus was closed. Make a new one with lightbus.create().")


_PAUSED_LOOPS: set[asyncio.AbstractEventLoop] = set()
"""Loops whose threads wait for another thread's fork to end before they fork themselves."""


@contextlib.contextmanager
def paused_for_fork() -> Iterator[None]:
    """Mark the loop that runs in this thread, if there is one, as paused for forks of other threads."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    _PAUSED_LOOPS.add(loop)
    try:
        yield
    finally:
        _PAUSED_LOOPS.discard(loop)


def _wait_until_paused(loop: asyncio.AbstractEventLoop, paused: threading.Event, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not paused.wait(POLL_EVERY) and loop not in _PAUSED_LOOPS and time.monotonic() < until:
        pass


def _started(ready: Future[tuple[Node, asyncio.AbstractEventLoop]]) -> tuple[Node, asyncio.AbstractEventLoop]:
    """Return the node that a thread makes, and its loop. Raises LightbusTimeout, and the error of making it."""
    try:
        return interruptible(ready.result, START_TIMEOUT)
    except TimeoutError:
        if ready.done():  # just now
            return ready.result()
        raise LightbusTimeout(
            f"The thread of the bus did not start within {START_TIMEOUT:g} s, and nothing was sent. Was this process "
            "stopped, or is it too busy? Try again: the start goes on."
        ) from None


def _no_loop(error: BaseException) -> TransportError:
    return TransportError(
        f"The thread of the bus cannot run an event loop: {error}. Is the limit of open files (ulimit -n) too low?"
    )


def _report_failure(start: asyncio.Task[None]) -> None:
    """Log why a node did not start: nobody awaits that in a thread, and its process would just find no peer."""
    if not start.cancelled() and (error := start.exception()) is not None:
        report(
            logger, logging.ERROR, error, "The discovery of peers did not start: this process finds only fixed peers"
        )


def _is_pending(future: Future[None]) -> bool:
    return not future.done()
