"""Lookups that channels make at the node of their engine, from any loop or thread, also while the node moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ..deadline import Deadline
from ..exceptions import LightbusShutdownInProgress, LightbusTimeout
from ..interrupts import interruptible
from ..membership.lookup import NodeStopped
from .loop_host import LoopHost
from .node import Node

__all__ = ["NodeQuestions"]

T = TypeVar("T")


class NodeQuestions:
    """
    Asks the current node, and its successor if the node stops meanwhile. Thread-safe.

    Args:
        host: the host of the node.

    """

    def __init__(self, host: LoopHost) -> None:
        self._host = host

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """
        Return once a peer that advertises `api` is up; with `to_call`, one that serves its procedures if possible.

        The instances in `leaving` do not count. Raises NotReachable if there is none in time. From any loop.
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
        """Return once all peers that advertise `api` are known, as far as possible. Raises as `resolve`."""
        await self._ask(lambda node: node.lookup.resolve_all(api, deadline))

    def resolve_all_blocking(self, api: str, deadline: Deadline) -> None:
        """Wait in a plain thread until all peers that advertise `api` are known, as far as possible."""
        self._ask_blocking(lambda node: node.lookup.resolve_all(api, deadline), deadline, f"'{api}' was looked for")

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Wait until each of these APIs is advertised by a peer that is up; at the deadline return the missing ones."""
        return await self._ask(lambda node: node.lookup.wait_for(apis, deadline))

    def wait_for_blocking(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Wait in a plain thread until each of these APIs is advertised; at the deadline return the missing ones."""
        names = ", ".join(apis)
        return self._ask_blocking(lambda node: node.lookup.wait_for(apis, deadline), deadline, f"it waited for {names}")

    async def discover_all(self, deadline: Deadline) -> None:
        """Discover all peers of the bus: return once no new peer is found, or at the deadline."""
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
            except NodeStopped:  # the node moved: ask the next one
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
                return interruptible(future.result, deadline.left() + 1.0)
            except (NodeStopped, CancelledError):  # the node moved, or its loop ended: ask the next one
                self._check_not_closed()
            except TimeoutError as error:
                if isinstance(error, LightbusTimeout):
                    raise
                future.cancel()
                raise LightbusTimeout(
                    f"The engine's event loop did not answer while {what}. Does a handler block it?"
                ) from None
