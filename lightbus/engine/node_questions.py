"""What channels ask the node of their engine, from any loop or thread, wherever it lives and however often it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ..deadline import Deadline
from ..exceptions import LightbusShutdownInProgress, LightbusTimeout
from ..membership.lookup import NodeStopped
from .loop_host import LoopHost
from .node import Node

__all__ = ["NodeQuestions"]

T = TypeVar("T")


class NodeQuestions:
    """
    Asks the node that there is, and the one that follows it where it leaves meanwhile. Any thread may use it.

    Args:
        host: has the node.

    """

    def __init__(self, host: LoopHost) -> None:
        self._host = host

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """
        Return when a peer that advertises `api` is up; `to_call`: one that serves its procedures, if any may come.

        One of the instances that are `leaving` does not do. Raises what NotReachable there is. From any loop.
        """
        await self._ask(lambda node: node.lookup.resolve(api, deadline, to_call=to_call, leaving=leaving))

    def resolve_blocking(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """Wait in a plain thread for a peer that advertises `api`, as `resolve` does on a loop."""
        what = f"'{api}' was looked for"
        self._ask_blocking(
            lambda node: node.lookup.resolve(api, deadline, to_call=to_call, leaving=leaving), deadline, what
        )

    async def resolve_all(self, api: str, deadline: Deadline) -> None:
        """Return when all peers that advertise `api` are known, as far as possible. Raises what `resolve` raises."""
        await self._ask(lambda node: node.lookup.resolve_all(api, deadline))

    def resolve_all_blocking(self, api: str, deadline: Deadline) -> None:
        """Wait in a plain thread until all peers that advertise `api` are known, as far as can be known."""
        self._ask_blocking(lambda node: node.lookup.resolve_all(api, deadline), deadline, f"'{api}' was looked for")

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Return when each of these APIs is advertised by a peer that is up, or the time is over; return the others."""
        return await self._ask(lambda node: node.lookup.wait_for(apis, deadline))

    def wait_for_blocking(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Wait in a plain thread until each of these APIs is advertised; return those that were not in time."""
        names = ", ".join(apis)
        return self._ask_blocking(lambda node: node.lookup.wait_for(apis, deadline), deadline, f"it waited for {names}")

    async def discover_all(self, deadline: Deadline) -> None:
        """Discover all peers of the bus: return when no new one is found any more, or the time is over."""
        await self._ask(lambda node: node.lookup.discover_all(deadline))

    def _check_not_closed(self) -> None:
        if self._host.closed:
            raise LightbusShutdownInProgress("The bus was closed while a peer was being looked for.")

    async def _ask(self, make: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        while True:
            node, loop = self._host.ensure()
            try:
                if loop is asyncio.get_running_loop():
                    return await make(node)
                return await asyncio.wrap_future(self._host.run(make))
            except NodeStopped:  # it moved: ask the next one
                pass
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise  # this task was cancelled, not one on a loop that ended
            self._check_not_closed()

    def _ask_blocking(self, make: Callable[[Node], Coroutine[Any, Any, T]], deadline: Deadline, what: str) -> T:
        while True:
            future = self._host.run(make)
            try:
                return future.result(deadline.left() + 1.0)
            except (NodeStopped, CancelledError):  # it moved, or its loop ended: ask the next one
                self._check_not_closed()
            except TimeoutError as error:
                if isinstance(error, LightbusTimeout):
                    raise
                future.cancel()
                raise LightbusTimeout(
                    f"The engine's event loop did not answer while {what}. Does a handler block it?"
                ) from None
