"""The channels of a process: one for each event loop that calls (`Caller`), and one for its plain threads.

The engine informs all of them of changes of peers, from the node's loop; each acts in a loop or thread of its own.
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
"""Seconds in which every loop has had a turn, or is too busy to send anything either."""

DONE_TIMEOUT = 0.5
"""Seconds in which a reply that was on its way is read."""

POLL_INTERVAL = 0.005
CLOSE_TIMEOUT = 1.0


class ThreadChannel(Protocol):
    """A way in for something else than an event loop (`lightbus.blocking` for plain threads)."""

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """Drop the connections to a peer that left."""

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        """Call back once nothing that chose this instance already is still unsent."""

    def awaits(self, instance: str) -> bool:
        """Return whether an answer of this instance is waited for. From any thread."""

    def close(self) -> Future[None]:
        """Close the idle connections, and have the busy ones raise; return the future of their end."""


class Channels:
    """All channels of an engine. Any thread may use it."""

    def __init__(self) -> None:
        self.callers: dict[asyncio.AbstractEventLoop, Caller] = {}
        """Those that were made, by their loops, which may be closed."""
        self._others: list[ThreadChannel] = []
        self._lock = threading.Lock()  # over the callers

    def add(self, channel: ThreadChannel) -> None:
        """Add the channel of something else than an event loop."""
        self._others.append(channel)

    def caller(self, context: RequestContext) -> Caller:
        """Return the channel of the running loop, made at first use; those of loops that are closed are dropped."""
        loop = asyncio.get_running_loop()
        caller = self.callers.get(loop)
        if caller is None:
            with self._lock:
                for closed in [loop for loop in self.callers if loop.is_closed()]:
                    self.callers.pop(closed).abandon()
                caller = self.callers[loop] = Caller(context)
        return caller

    def peer_left(self, fact: PeerLeft) -> None:
        """Fail what was with a peer that left: at once on the running loop, soon on the others."""
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
        """Return when no channel can send anything new to an instance that the snapshot no longer offers."""
        here = asyncio.get_running_loop()
        waits: list[asyncio.Future[None]] = []
        for caller in self._all_callers():
            seen = here.create_future()
            with contextlib.suppress(RuntimeError):  # that loop is closed
                # In two turns: what was sent in the first one leaves at its end.
                caller.loop.call_soon_threadsafe(caller.loop.call_soon, _set_from_any_thread, here, seen)
                waits.append(seen)
        for channel in self._others:
            waits.append(here.create_future())
            channel.when_sent(instance, partial(_set_from_any_thread, here, waits[-1]))
        if waits:
            await asyncio.wait(waits, timeout=SEEN_TIMEOUT)

    async def wait_until_answered(self, instance: str) -> None:
        """Return when no channel awaits anything of an instance any more, or after a short while."""
        until = time.monotonic() + DONE_TIMEOUT
        while self._awaits(instance) and time.monotonic() < until:  # noqa: ASYNC110 - no call is to pay for an event
            await asyncio.sleep(POLL_INTERVAL)

    def close_own(self) -> None:
        """Close the channel of the running loop."""
        with self._lock:
            caller = self.callers.pop(asyncio.get_running_loop(), None)
        if caller is not None:
            caller.close()

    def close(self, *, at_exit: bool = False) -> list[Future[None]]:
        """
        Close all of them, each in its own loop, and wait for that; bounded. From a plain thread.

        Return what is done once nobody uses their sockets any more: nothing, mostly. With `at_exit` those of loops that
        still run are left alone.
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
    """Have a caller closed once its sockets are unused: in its loop, or here if that does not run."""
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

    with contextlib.suppress(RuntimeError):  # closed just now
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
