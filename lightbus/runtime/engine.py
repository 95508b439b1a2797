"""The one engine of a bus in a process: its node on a loop, and the doors through which other loops and threads go.

The node runs in a thread of its own, or, in a worker, on the user's loop; it can move. The doors stay: they see the
registry only as a snapshot, which is replaced as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..core.registry import Peer, PeerLeft, Snapshot
from ..deadline import Deadline
from ..exceptions import BusAlreadyClosed, LightbusTimeout
from ..io.discovery import Discovery, NoDiscovery, ZeroconfDiscovery
from ..io.interfaces import own_networks, usable_addresses
from ..io.security import HostSecurity, InsecureSecurity, Security, check_platform, runtime_directory
from ..io.transport import Transport
from .calling import Caller
from .context import Identity
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
EXTRA_THREADS = 1000
"""Threads beyond `rpc_concurrency`, for nested calls, listeners and hooks. They are made only when needed."""


class Door(Protocol):
    """A way in for something else than an event loop (`lightbus.blocking` for plain threads)."""

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """Drop the connections to a peer that left."""

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        """Call back once nothing that chose this instance already is still unsent."""

    def close(self) -> None:
        """Close the idle connections, and have the busy ones raise."""


class Engine:
    """
    Everything of one bus in one process. Making it opens nothing; `ensure` and `adopt` start it.

    Any thread may use it; what lives on the node's loop is reached through `run`.

    Args:
        config: the settings.
        identity: who this process is.
        discovery: another way of finding peers than the settings say (tests).

    """

    def __init__(self, config: Config, identity: Identity, *, discovery: Discovery | None = None) -> None:
        check_platform()
        self.config = config
        self.identity = identity
        self.snapshot = Snapshot()
        self.wanted: set[str] = set()
        self.max_message_size = config.network.max_message_size
        self.event_ids = EventIds(identity.instance)
        self.doors: list[Door] = []
        self.node: Node | None = None
        self.publisher: Publisher | None = None
        """Publishes for this process, while it is a worker."""
        self.directory: Path | None = None
        self.addresses: tuple[str, ...] = ("127.0.0.1",)
        self.security = self._make_security()
        self.transport = Transport(
            self.security,
            max_message_size=config.network.max_message_size,
            heartbeat_interval=config.network.heartbeat_interval,
            heartbeat_timeout=config.network.heartbeat_timeout,
        )
        self._discovery = discovery
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callers: dict[asyncio.AbstractEventLoop, Caller] = {}
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop_thread: asyncio.Event | None = None
        self._executor: HandlerThreads | None = None
        self._closed = False

    # Where the node runs

    def ensure(self) -> tuple[Node, asyncio.AbstractEventLoop]:
        """Return the node and its loop; start them in a thread where there is none. Raises BusAlreadyClosed."""
        node, loop = self.node, self._loop
        if node is not None and loop is not None and not loop.is_closed():
            return node, loop
        with self._lock:
            if self._closed:
                raise BusAlreadyClosed("The bus was closed. Make a new one with lightbus.create().")
            if self.node is None or self._loop is None or self._loop.is_closed():
                self._start_thread()
            assert self.node is not None
            assert self._loop is not None
            return self.node, self._loop

    async def adopt(self) -> Node:
        """Put the node on the running loop, and return it; a thread that had it ends."""
        await asyncio.to_thread(self._end_thread)
        if self._closed:
            raise BusAlreadyClosed("The bus was closed. Make a new one with lightbus.create().")
        self._loop = asyncio.get_running_loop()
        self.node = self._make_node()
        await self.node.start()
        return self.node

    async def release(self) -> None:
        """Take the node off the running loop; the next use starts one in a thread."""
        node, self.node = self.node, None
        if node is not None:
            await node.stop()
        self._loop = None
        self.snapshot = Snapshot()

    def run(self, make: Callable[[Node], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the node's loop. From any thread."""
        node, loop = self.ensure()
        return asyncio.run_coroutine_threadsafe(make(node), loop)

    @property
    def is_running(self) -> bool:
        """Whether there is a node."""
        return self.node is not None and self._loop is not None and not self._loop.is_closed()

    @property
    def executor(self) -> HandlerThreads:
        """Return the threads for `def` functions of the user's, made at first use."""
        with self._lock:
            if self._executor is None:
                limit = self.config.worker.rpc_concurrency + EXTRA_THREADS
                self._executor = HandlerThreads(limit)
            return self._executor

    # Doors

    def caller(self) -> Caller:
        """Return the door of the running loop."""
        loop = asyncio.get_running_loop()
        caller = self._callers.get(loop)
        if caller is None:
            self.ensure()
            with self._lock:
                self._drop_closed_loops()
                caller = self._callers[loop] = Caller(self)
        return caller

    async def resolve(self, api: str, deadline: Deadline) -> None:
        """Return when a peer that advertises `api` is up. Raises UnknownApi or PeerUnreachable. From any loop."""
        node, loop = self.ensure()
        if loop is asyncio.get_running_loop():
            await node.resolve(api, deadline)
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(node.resolve(api, deadline), loop))

    def resolve_blocking(self, api: str, deadline: Deadline) -> None:
        """Do the same from a plain thread."""
        future = self.run(lambda node: node.resolve(api, deadline))
        try:
            future.result(deadline.left() + 1.0)
        except TimeoutError as error:
            if isinstance(error, LightbusTimeout):
                raise
            future.cancel()
            raise LightbusTimeout(
                f"The engine's event loop did not answer while '{api}' was looked for. Does a handler block it?"
            ) from None

    # As the user of the node

    def peers_changed(self, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Take over a new snapshot, and fail what was with those who left. On the node's loop."""
        self.snapshot = snapshot
        for fact in left:
            for caller in list(self._callers.values()):
                if caller.loop is self._loop:
                    caller.peer_lost(fact.peer, fact.reason)
                else:
                    with contextlib.suppress(RuntimeError):  # that loop is closed
                        caller.loop.call_soon_threadsafe(caller.peer_lost, fact.peer, fact.reason)
            for door in self.doors:
                door.peer_lost(fact.peer, fact.reason)

    async def doors_have_seen(self, instance: str) -> None:
        """Return when no door can send anything new to an instance that the snapshot no longer offers."""
        loop = asyncio.get_running_loop()
        waits: list[asyncio.Future[None]] = []
        for caller in list(self._callers.values()):
            waits.append(loop.create_future())
            with contextlib.suppress(RuntimeError):
                caller.loop.call_soon_threadsafe(loop.call_soon_threadsafe, _set, waits[-1])
        for door in self.doors:
            waits.append(loop.create_future())
            door.when_sent(instance, partial(_from_any_thread, loop, waits[-1]))
        if waits:
            await asyncio.wait(waits, timeout=1.0)

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
        self._end_thread()
        self._close_doors(at_exit=at_exit)

    async def close_async(self) -> None:
        """Close everything; bounded. A node on the running loop is stopped on it."""
        if self._loop is asyncio.get_running_loop():
            await self.release()
        caller = self._callers.pop(asyncio.get_running_loop(), None)
        if caller is not None:
            caller.close()
        await asyncio.to_thread(self.close)

    def _close_doors(self, *, at_exit: bool) -> None:
        left_alone = False
        for caller in list(self._callers.values()):
            if caller.loop.is_closed():
                caller.abandon()
            elif at_exit and caller.loop.is_running():
                left_alone = True
            else:
                with contextlib.suppress(RuntimeError):
                    caller.loop.call_soon_threadsafe(caller.close)
        for door in self.doors:
            door.close()
        if self._executor is not None:
            self._executor.shutdown()
        if not left_alone:
            self.transport.close()

    # Inside

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
            self._loop = asyncio.get_running_loop()
            self.node = self._make_node()
            # Discovery takes a moment (its imports, too), and nobody has to wait for it: `resolve` does.
            start = asyncio.create_task(self.node.start())
            ready.set_result(None)
            await self._stop_thread.wait()
            with contextlib.suppress(Exception):
                await start
            await self.release()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    def _end_thread(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            loop, stop = self._loop, self._stop_thread
            if thread is None or stop is None or loop is None:
                return
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
        if thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT)

    def _drop_closed_loops(self) -> None:
        for loop in [loop for loop in self._callers if loop.is_closed()]:
            self._callers.pop(loop).abandon()

    def _make_node(self) -> Node:
        return Node(
            self,
            self.identity,
            self.transport,
            self._discovery or self._make_discovery(),
            seeds=self.config.discovery.peers,
            directory=self.directory,
            networks=own_networks(self.config.network.interfaces) if self.directory is None else (),
            wait=self.config.discovery.wait,
            looked=f"zeroconf on {', '.join(self.addresses)}"
            if self.config.discovery.mdns
            else "zeroconf switched off",
        )

    def _make_security(self) -> Security:
        if self.config.security.mode == "host":
            self.directory = runtime_directory(self.identity.bus)
            return HostSecurity(directory=self.directory)
        self.addresses = usable_addresses(self.config.network.interfaces)
        return InsecureSecurity(bus=self.identity.bus, addresses=self.addresses)

    def _make_discovery(self) -> Discovery:
        if not self.config.discovery.mdns:
            return NoDiscovery()
        return ZeroconfDiscovery(self.identity.bus, addresses=self.addresses)


def _from_any_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    loop.call_soon_threadsafe(_set, future)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
