"""The channels of a process: one per event loop that makes calls (`Caller`), and one for its plain threads.

The engine informs all channels when a peer leaves, from the node's loop; each channel acts in its own loop or thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Protocol

from ..core.registry import Peer, PeerLeft
from .calling import Caller
from .request import RequestContext

__all__ = ["Channels", "ThreadChannel"]

SEEN_TIMEOUT = 1.0
"""Seconds to wait for each loop to run once. A loop that takes longer is too busy to send anything, either."""

DONE_TIMEOUT = 0.5
"""Seconds to wait for replies that are on the network."""

POLL_INTERVAL = 0.005
CLOSE_TIMEOUT = 1.0


class ThreadChannel(Protocol):
    """The channel of plain threads (`lightbus.blocking`)."""

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """Drop the connections to a peer that left."""

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        """Call `callback` once every request that is meant for this instance has been sent."""

    def awaits(self, instance: str) -> bool:
        """Return whether a request to this instance is unanswered. Thread-safe."""

    def close(self) -> Future[None]:
        """Close idle connections, and make requests on busy ones raise; return the future of the last one's end."""


class Channels:
    """All channels of an engine. Thread-safe."""

    def __init__(self) -> None:
        self.callers: dict[asyncio.AbstractEventLoop, Caller] = {}
        """The channels of event loops; a loop may be closed already."""
        self._others: list[ThreadChannel] = []
        self._lock = threading.Lock()  # guards `callers`

    def add(self, channel: ThreadChannel) -> None:
        """Add the channel of plain threads."""
        self._others.append(channel)

    def caller(self, context: RequestContext) -> Caller:
        """Return the channel of the running loop; make it at first use, and drop the channels of closed loops."""
        loop = asyncio.get_running_loop()
        caller = self.callers.get(loop)
        if caller is None:
            with self._lock:
                for closed in [loop for loop in self.callers if loop.is_closed()]:
                    self.callers.pop(closed).abandon()
                caller = self.callers[loop] = Caller(context)
        return caller

    def peer_left(self, fact: PeerLeft) -> None:
        """Fail the requests to a peer that left: at once on the running loop, soon on the others."""
        here = asyncio.get_running_loop()
        for caller in self._all_callers():
            if caller.loop is here:
                caller.peer_lost(fact.peer, fact.reason)
            else:
                with contextlib.suppress(RuntimeError):  # that loop is closed
                    caller.loop.call_soon_threadsafe(caller.peer_lost, fact.peer, fact.reason)
        for channel in self._others:
            channel.peer_lost(fact.peer, fact.reason)

    async def wait_until_no_new_requests(self, instance: str) -> None:
        """Wait until no channel can send new requests to an instance that was removed from the snapshot; bounded."""
        here = asyncio.get_running_loop()
        waits: list[asyncio.Future[None]] = []
        for caller in self._all_callers():
            seen = here.create_future()
            with contextlib.suppress(RuntimeError):  # that loop is closed
                # Two iterations of the loop: frames sent in the first one leave at its end.
                caller.loop.call_soon_threadsafe(caller.loop.call_soon, _set_from_any_thread, here, seen)
                waits.append(seen)
        for channel in self._others:
            waits.append(here.create_future())
            channel.when_sent(instance, partial(_set_from_any_thread, here, waits[-1]))
        if waits:
            await asyncio.wait(waits, timeout=SEEN_TIMEOUT)

    async def wait_until_answered(self, instance: str) -> None:
        """Wait until every request to an instance is answered; at most DONE_TIMEOUT."""
        until = time.monotonic() + DONE_TIMEOUT
        while self._awaits(instance) and time.monotonic() < until:  # noqa: ASYNC110 - an event would cost each call
            await asyncio.sleep(POLL_INTERVAL)

    def close_own(self) -> None:
        """Close the channel of the running loop."""
        with self._lock:
            caller = self.callers.pop(asyncio.get_running_loop(), None)
        if caller is not None:
            caller.close()

    def close(self, *, at_exit: bool = False) -> list[Future[None]]:
        """
        Close all channels, each in its own loop, and wait for that; bounded. Call it from a plain thread.

        Return a future for each channel that is still open, done when its sockets are unused; usually there is none.
        With `at_exit`, the channels of loops that still run are left open.
        """
        left_alone = [caller for caller in self._all_callers() if at_exit and caller.loop.is_running()]
        callers = [caller for caller in self._all_callers() if caller not in left_alone]
        closing = [future for caller in callers if (future := _close_caller(caller)) is not None]
        closing += [channel.close() for channel in self._others]
        in_use = [*wait(closing, timeout=CLOSE_TIMEOUT).not_done, *(Future[None]() for _ in left_alone)]
        with self._lock:
            self.callers.clear()
        return in_use

    def _all_callers(self) -> list[Caller]:
        with self._lock:
            return list(self.callers.values())

    def _awaits(self, instance: str) -> bool:
        return any(caller.awaits(instance) for caller in self._all_callers()) or any(
            channel.awaits(instance) for channel in self._others
        )


def _close_caller(caller: Caller) -> Future[None] | None:
    """Close a channel in its loop, and return the future of that; or here, if its loop does not run."""
    if caller.loop.is_closed():
        caller.abandon()
        return None
    if not caller.loop.is_running():
        caller.close()
        return None
    closed: Future[None] = Future()

    def close() -> None:
        caller.close()
        closed.set_result(None)

    with contextlib.suppress(RuntimeError):  # the loop was closed just now
        caller.loop.call_soon_threadsafe(close)
        return closed
    caller.abandon()
    return None


def _set_from_any_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the waiting caller is gone
        loop.call_soon_threadsafe(_set, future)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
