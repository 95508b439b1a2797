"""The one engine of a bus in a process: its node on a loop, and the doors through which other loops and threads go.

The node runs in a thread of its own, or, in a worker, on the user's loop; it can move. The doors stay: they see the
registry only as a snapshot, which is replaced as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.registry import Peer, PeerLeft, Snapshot
from ..deadline import Deadline
from ..exceptions import BusAlreadyClosed, LightbusShutdownInProgress, LightbusTimeout, UnsupportedUse
from ..io.discovery import Discovery, NoDiscovery, ZeroconfDiscovery
from ..io.interfaces import own_networks, usable_addresses
from ..io.security import HostSecurity, InsecureSecurity, Security, check_platform, runtime_directory
from ..io.transport import Transport
from ..wire.announcement import new_instance_id
from .calling import Caller
from .context import Identity
from .doors import Door, Doors
from .looking import NodeStopped
from .node import Node
from .publishing import EventIds, Publisher
from .threads import HandlerThreads

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Door", "Engine"]

logger = logging.getLogger("lightbus.engine")

T = TypeVar("T")

START_TIMEOUT = 10.0
STOP_TIMEOUT = 3.0
LONGEST_PAUSE = 5.0
EXTRA_THREADS = 1000
"""Threads beyond `rpc_concurrency`, for nested calls, listeners and hooks. They are made only when needed."""


class Engine:
    """
    Everything of one bus in one process. Making it starts nothing; `ensure` and `adopt` do.

    Any thread may use it; what lives on the node's loop is reached through `run`.

    Args:
        config: the settings.
        identity: who this process is.
        discovery: makes another way of finding peers than the settings say, anew for each node (tests).
        directory: where the sockets of mode host are, instead of the user's own directory (tests).

    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        *,
        discovery: Callable[[], Discovery] | None = None,
        directory: Path | None = None,
    ) -> None:
        check_platform()
        self.config = config
        self.identity = identity
        self.snapshot = Snapshot()
        self.wanted: set[str] = set()
        self.max_message_size = config.network.max_message_size
        self.event_ids = EventIds(identity.instance)
        self.doors = Doors()
        self.publisher: Publisher | None = None
        """Publishes for this process, while it is a worker."""
        self.directory = directory
        self.addresses: tuple[str, ...] = ("127.0.0.1",)
        self.security = self._make_security()
        self.transport = Transport(
            self.security,
            max_message_size=config.network.max_message_size,
            heartbeat_interval=config.network.heartbeat_interval,
            heartbeat_timeout=config.network.heartbeat_timeout,
        )
        self._discovery = discovery
        self._lock = threading.RLock()  # over the fields below, and whatever moves the node
        self._place: tuple[Node, asyncio.AbstractEventLoop] | None = None
        self._known: Iterable[Peer] = ()
        self._was_worker = False
        self._guard: asyncio.Task[None] | None = None
        self._on_left: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._stop_thread: asyncio.Event | None = None
        self._executor: HandlerThreads | None = None
        self._closed = False

    # Where the node runs

    def ensure(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        """Return the node and its loop; start them in a thread where there is none. Raises BusAlreadyClosed."""
        place = self._place
        if place is not None and not place[1].is_closed():
            return place
        with self._lock:
            self._check_open()
            self._drop_closed_loop()
            if self._place is None:
                self._start_thread()
            assert self._place is not None
            return self._place

    async def adopt(self, on_left: Callable[[], None]) -> Node:
        """
        Put the node on the running loop, and return it; a thread that had it ends.

        It goes when the loop does (`asyncio.run` cancels what still runs), so that nobody calls into the void.
        `on_left` is called when it has gone, for this reason or another; where the loop is closed, in any thread.
        """
        with self._lock:
            self._check_open()
            self._drop_closed_loop()
            if self._place is not None and self._thread is None:
                raise UnsupportedUse("This bus has a worker on another event loop. Stop that one first.")
            # The new node is there before the old one goes: whoever is sent on by that one finds it.
            thread = self._dismiss_thread()
            self._known = [peer for peer in self.snapshot.peers.values() if peer.is_up]
            node = self._settle()
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
                self._leave(node, known)
        await node.stop()

    def run(self, make: Callable[[Node], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the node's loop. From any thread."""
        while True:
            node, loop = self.ensure()
            coroutine = make(node)
            try:
                return asyncio.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError:  # closed just now
                coroutine.close()

    @property
    def node(self) -> Node | None:
        """The node, where there is one."""
        return None if self._place is None else self._place[0]

    @property
    def is_running(self) -> bool:
        """Whether there is a node."""
        return self._place is not None and not self._place[1].is_closed()

    @property
    def executor(self) -> HandlerThreads:
        """Return the threads for `def` functions of the user's, made at first use."""
        with self._lock:
            if self._executor is None:
                limit = self.config.worker.rpc_concurrency + EXTRA_THREADS
                self._executor = HandlerThreads(limit)
            return self._executor

    # What doors ask for

    def caller(self) -> Caller:
        """Return the door of the running loop."""
        self.ensure()
        return self.doors.caller(self)

    async def resolve(self, api: str, deadline: Deadline) -> None:
        """Return when a peer that advertises `api` is up. Raises UnknownApi or PeerUnreachable. From any loop."""
        await self._ask(lambda node: node.resolve(api, deadline))

    def resolve_blocking(self, api: str, deadline: Deadline) -> None:
        """Do the same from a plain thread."""
        self._ask_blocking(lambda node: node.resolve(api, deadline), deadline, f"'{api}' was looked for")

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Return when each of these APIs is advertised by a peer that is up, or the time is over; return the others."""
        return await self._ask(lambda node: node.wait_for(apis, deadline))

    def wait_for_blocking(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Do the same from a plain thread."""
        names = ", ".join(apis)
        return self._ask_blocking(lambda node: node.wait_for(apis, deadline), deadline, f"it waited for {names}")

    async def _ask(self, make: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        while True:
            node, loop = self.ensure()
            try:
                if loop is asyncio.get_running_loop():
                    return await make(node)
                return await asyncio.wrap_future(self.run(make))
            except NodeStopped:  # it moved: ask the next one
                pass
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if (
                    task is None or task.cancelling()
                ):  # it is us who are cancelled, and not what ran on a loop that ended
                    raise
            self._check_open(on_the_way=True)

    def _ask_blocking(self, make: Callable[[Node], Coroutine[Any, Any, T]], deadline: Deadline, what: str) -> T:
        while True:
            future = self.run(make)
            try:
                return future.result(deadline.left() + 1.0)
            except (NodeStopped, CancelledError):  # it moved, or its loop ended: ask the next one
                self._check_open(on_the_way=True)
            except TimeoutError as error:
                if isinstance(error, LightbusTimeout):
                    raise
                future.cancel()
                raise LightbusTimeout(
                    f"The engine's event loop did not answer while {what}. Does a handler block it?"
                ) from None

    # As the user of the node

    def peers_changed(self, node: Node, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Take over a new snapshot, and fail what was with those who left. On the node's loop."""
        if node is not self.node:
            return  # another one has followed it
        self.snapshot = snapshot
        for fact in left:
            self.doors.peer_left(fact)

    async def doors_have_seen(self, instance: str) -> None:
        """Return when no door can send anything new to an instance that the snapshot no longer offers."""
        await self.doors.have_seen(instance)

    async def doors_are_done(self, instance: str) -> None:
        """Return when no door awaits anything of an instance any more, or after a short while."""
        await self.doors.are_done(instance)

    # The end

    def close(self, *, at_exit: bool = False) -> None:
        """
        Close everything; bounded. From a plain thread (an event loop uses `close_async`).

        With `at_exit` loops that still run, which can only be those of daemon threads, are left alone: they are about
        to be killed, and would fail with a traceback that nobody needs.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        thread = self._dismiss_thread()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT)
        all_left = self._leave_foreign_loop(at_exit=at_exit)
        all_closed = self.doors.close(at_exit=at_exit)
        if self._executor is not None:
            self._executor.shutdown()
        if all_left and all_closed:
            self.transport.close()

    async def close_async(self) -> None:
        """Close everything; bounded. A node on the running loop is stopped on it."""
        if self._place is not None and self._place[1] is asyncio.get_running_loop():
            await self.release()
        self.doors.close_own()
        await asyncio.to_thread(self.close)

    def pause(self, seconds: float) -> Callable[[], None]:
        """
        Have the node's loop stand still in its thread, and return what lets it go on: for a fork.

        A fork in the midst of what another thread imports or writes would leave the child a lock that nobody releases.
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

        place = self._place
        if place is not None and place[1].is_running() and place[1] is not asyncio._get_running_loop():
            with contextlib.suppress(RuntimeError):  # closed just now
                place[1].call_soon_threadsafe(stand_still)
                still.wait(seconds)
        return resume

    def _check_open(self, *, on_the_way: bool = False) -> None:
        if self._closed and on_the_way:
            raise LightbusShutdownInProgress("The bus was closed while a peer was being looked for.")
        if self._closed:
            raise BusAlreadyClosed("The bus was closed. Make a new one with lightbus.create().")

    # Moving the node

    def _settle(self) -> Node:
        """Make a node on the running loop. It goes on from what the one before it knew."""
        if self._was_worker:
            # Others have seen this instance leave, and would not believe a rumour that it is back.
            self.identity = replace(self.identity, instance=new_instance_id())
            self._was_worker = False
        node = self._make_node(self._known)
        self.snapshot = node.registry.snapshot()
        self._place = node, asyncio.get_running_loop()
        return node

    def _leave(self, node: Node, known: Sequence[Peer]) -> None:
        self._place, self._known = None, known
        self._was_worker = self._was_worker or node.binding is not None
        self.publisher = None
        # Calls on their way go on. New ones find nobody, and start a node to ask.
        self.snapshot = Snapshot(peers={peer.instance: peer for peer in known})
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.cancel()
        on_left, self._on_left = self._on_left, None
        if on_left is not None:
            on_left()

    def _drop_closed_loop(self) -> None:
        if self._place is not None and self._place[1].is_closed():
            node, _ = self._place
            self._guard = None
            self._leave(node, ())
            node.abandon()

    async def _go_with_the_loop(self, node: Node) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self.node is node:
                self._guard = None
                await self.release()

    def _leave_foreign_loop(self, *, at_exit: bool) -> bool:
        """Take the node off a loop that is not ours; return whether nobody uses its sockets any more."""
        place = self._place
        if place is None:
            return True
        node, loop = place
        if not loop.is_running():
            self._guard = None
            self._leave(node, ())
            node.abandon()
        elif not at_exit:
            with contextlib.suppress(TimeoutError, CancelledError):
                asyncio.run_coroutine_threadsafe(self.release(), loop).result(STOP_TIMEOUT)
        return self._place is None

    # The thread

    def _start_thread(self) -> None:
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._thread_main(ready)), name="lightbus-engine", daemon=True
        )
        self._thread.start()
        ready.result(START_TIMEOUT)

    async def _thread_main(self, ready: Future[None]) -> None:
        try:
            self._stop_thread = asyncio.Event()
            node = self._settle()
        except BaseException as error:
            ready.set_exception(error)
            return
        # Discovery takes a moment (its imports, too), and nobody has to wait for it: `resolve` does.
        start = asyncio.create_task(node.start())
        ready.set_result(None)
        await self._stop_thread.wait()
        with contextlib.suppress(Exception):
            await start
        await self._release(node)

    def _dismiss_thread(self) -> threading.Thread | None:
        """Ask the thread to end, and return it; None where there is none."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or self._place is None or self._stop_thread is None:
                return None
            with contextlib.suppress(RuntimeError):
                self._place[1].call_soon_threadsafe(self._stop_thread.set)
            return thread

    # Parts

    def _make_node(self, known: Iterable[Peer]) -> Node:
        discovery = self._make_discovery()
        return Node(
            self,
            self.identity,
            self.transport,
            discovery,
            seeds=self.config.discovery.peers,
            directory=self.directory,
            networks=own_networks(self.config.network.interfaces) if self.directory is None else (),
            wait=self.config.discovery.wait,
            looked=self._how_it_looks(discovery),
            known=known,
        )

    def _make_security(self) -> Security:
        if self.config.security.mode == "host":
            self.directory = self.directory or runtime_directory(self.identity.bus)
            return HostSecurity(directory=self.directory)
        self.addresses = usable_addresses(self.config.network.interfaces)
        return InsecureSecurity(bus=self.identity.bus, addresses=self.addresses)

    def _how_it_looks(self, discovery: Discovery) -> str:
        if isinstance(discovery, ZeroconfDiscovery):
            return f"zeroconf on {', '.join(self.addresses)}"
        return "zeroconf switched off" if isinstance(discovery, NoDiscovery) else f"by {type(discovery).__name__}"

    def _make_discovery(self) -> Discovery:
        if self._discovery is not None:
            return self._discovery()
        if not self.config.discovery.mdns:
            return NoDiscovery()
        return ZeroconfDiscovery(self.identity.bus, addresses=self.addresses)
