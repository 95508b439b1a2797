"""The calls that workers answer, as they happen: each worker is polled for new ones."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Any

from ...core.peers import Peer
from ...exceptions import LightbusException, LightbusWorkerError, UnknownProcedure
from .connection import SERVICE, Connection

__all__ = ["CallFollower"]

ASK_EVERY = 0.2
"""Seconds between two requests to a worker: quick enough for a reader, without a noticeable load."""

Show = Callable[[Peer, dict[str, Any]], None]


class CallFollower:
    """
    Follows the calls of all workers that are up, including workers that start later.

    Args:
        bus: the bus.
        show: called with each call, and the worker that answered it.
        dropped: called with a worker, and the number of its calls that were lost because there were too many.

    """

    def __init__(self, bus: Connection, show: Show, dropped: Callable[[Peer, int], None]) -> None:
        self._bus = bus
        self._show = show
        self._dropped = dropped
        self._watcher = f"{bus.client.engine.identity.instance}-{secrets.token_hex(4)}"
        self._after: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self) -> None:
        """Start with the workers that are up; return when each was asked once: from then on no call is missed."""
        await asyncio.gather(*map(self._ask, self._workers().values()))
        self.look()

    def look(self) -> None:
        """Start following new workers, and stop following those that are gone."""
        up = self._workers()
        for instance in self._tasks.keys() - up.keys():
            self._tasks.pop(instance).cancel()
        for instance in up.keys() - self._tasks.keys():
            self._tasks[instance] = asyncio.get_running_loop().create_task(self._follow(up[instance]))

    async def end(self) -> None:
        """Stop following; the workers stop keeping calls for this process."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        peers = [peer for peer in self._bus.known() if peer.is_up and peer.instance in self._after]
        await asyncio.gather(*map(self._end_watch, peers))

    async def _end_watch(self, peer: Peer) -> None:
        with contextlib.suppress(LightbusException):  # then it ends by itself, some seconds later
            await self._bus.ask(peer, "end_watch", watcher=self._watcher)

    def _workers(self) -> dict[str, Peer]:
        """Return the peers that may serve calls: all but other commands."""
        known = self._bus.known()
        return {peer.instance: peer for peer in known if peer.is_up and peer.announcement.service != SERVICE}

    async def _follow(self, peer: Peer) -> None:
        while True:
            if not await self._ask(peer):
                return
            await asyncio.sleep(ASK_EVERY)

    async def _ask(self, peer: Peer) -> bool:
        """Ask a worker once, and show its calls; return whether to ask it again."""
        after = self._after.get(peer.instance, 0)
        try:
            answer = await self._bus.ask(peer, "watch_calls", watcher=self._watcher, after=after)
        except (UnknownProcedure, LightbusWorkerError) as error:
            self._bus.output.note(f"{peer.announcement} does not report its calls: {error}")
            return False
        except LightbusException:
            return True  # busy, or about to be lost: then `look` ends its task
        if answer["noted"] < after:
            after = 0  # the worker has forgotten this watcher, and started counting again
        for call in answer["calls"]:
            if call["number"] > after + 1:
                self._dropped(peer, call["number"] - after - 1)
            after = call["number"]
            self._show(peer, call)
        if answer["noted"] > after:
            self._dropped(peer, answer["noted"] - after)
        self._after[peer.instance] = answer["noted"]
        return True
