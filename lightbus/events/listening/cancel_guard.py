"""Keeps tasks running in which handlers run: a handler may cancel its own task, which must not end the listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ...service.execution import outcome

__all__ = ["CancelGuard", "current_task"]

T = TypeVar("T")

LONGEST_SLEEP = 365 * 24 * 3600.0


class CancelGuard:
    """
    Distinguishes the end of a listener from cancellations by its handlers. Only touched from the node's loop.

    Args:
        is_stopping: whether the listener stops, so that its tasks may be cancelled by ourselves.

    """

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping
        self._loop = asyncio.get_running_loop()
        self._sentinel = self._loop.create_task(asyncio.sleep(LONGEST_SLEEP))
        """Is cancelled by us, or with everything else when the loop ends, but by no handler."""

    @property
    def is_ending(self) -> bool:
        """Whether our tasks are cancelled by ourselves, or by the end of the loop."""
        return self._is_stopping() or self._sentinel.done() or self._sentinel.cancelling() > 0

    def close(self) -> None:
        """Guard nothing any more."""
        self._sentinel.cancel()

    async def pause(self, awaitable: Awaitable[Any]) -> None:
        """Await something, although a handler that ran in this task may cancel it: the listener goes on."""
        try:
            await awaitable
        except asyncio.CancelledError:
            if self.is_ending:
                raise
            await self.absorb_cancellation()

    async def shielded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine of ours, although a handler may cancel this task."""
        task = self._loop.create_task(coroutine)
        while not task.done():
            await self.pause(asyncio.wait([task]))
        return task.result()

    async def apart(self, awaitable: Awaitable[Any]) -> Any:
        """Return the result of the user's code, in a task of its own, which only this listener cancels."""
        task = self._loop.create_task(outcome(awaitable))
        try:
            while not task.done():
                await self.pause(asyncio.wait([task]))
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        result, error = task.result()
        if error is not None:
            raise error
        return result

    async def absorb_cancellation(self) -> None:
        """Continue although a handler has cancelled the task that it ran in."""
        task = current_task()
        if self.is_ending:
            return  # the cancelling takes effect where we wait next
        while task.uncancel():
            pass
        with contextlib.suppress(asyncio.CancelledError):  # which may come only now
            await asyncio.sleep(0)


def current_task() -> asyncio.Task[Any]:
    """Return the task that runs here. Raises RuntimeError where none does: it is called in coroutines of tasks only."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task runs here")
    return task
