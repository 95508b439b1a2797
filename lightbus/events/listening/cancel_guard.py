"""Protects the tasks that run handlers: a handler may cancel its own task, which must not end the listener."""

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
        is_stopping: returns whether the listener stops, so that cancellations of its tasks are ours.

    """

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping
        self._loop = asyncio.get_running_loop()
        self._sentinel = self._loop.create_task(asyncio.sleep(LONGEST_SLEEP))
        """A task that only we cancel, or the loop at its end; never a handler."""

    @property
    def is_ending(self) -> bool:
        """Whether cancellations come from us, or from the end of the loop."""
        return self._is_stopping() or self._sentinel.done() or self._sentinel.cancelling() > 0

    def close(self) -> None:
        """Stop guarding."""
        self._sentinel.cancel()

    async def pause(self, awaitable: Awaitable[Any]) -> None:
        """Await something; absorb a cancellation of this task by a handler that ran in it."""
        try:
            await awaitable
        except asyncio.CancelledError:
            if self.is_ending:
                raise
            await self.absorb_cancellation()

    async def shielded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of our own coroutine, which a handler's cancellation of this task does not stop."""
        task = self._loop.create_task(coroutine)
        while not task.done():
            await self.pause(asyncio.wait([task]))
        return task.result()

    async def in_own_task(self, awaitable: Awaitable[Any]) -> Any:
        """Run the user's code in a task of its own, which only this listener cancels, and return its result."""
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
        """Undo a handler's cancellation of the task that it ran in."""
        task = current_task()
        if self.is_ending:
            return  # the cancellation takes effect at the next await
        while task.uncancel():
            pass
        with contextlib.suppress(asyncio.CancelledError):  # it may be raised only now
            await asyncio.sleep(0)


def current_task() -> asyncio.Task[Any]:
    """Return the running task. Raises RuntimeError if there is none: call it only in coroutines of tasks."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task runs here")
    return task
