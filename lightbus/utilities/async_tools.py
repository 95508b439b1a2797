"""Run asynchronous code from synchronous code, under its module path in Lightbus 1.x. Knows nothing of the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ..exceptions import CannotBlockHere, LightbusTimeout
from ..keywords import also_named

__all__ = ["block"]

T = TypeVar("T")


@also_named(coroutine="awaitable")
def block(awaitable: Awaitable[T], timeout: float | None = None) -> T:
    """
    Run a coroutine (or another awaitable) to its end and return its result.

    `timeout` is in seconds; None: no limit. Raises LightbusTimeout when it has passed, and CannotBlockHere inside a
    running event loop, which would be blocked meanwhile.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # with it, the thread's own loop stays set
            return runner.run(_finish(awaitable, timeout))
    if asyncio.iscoroutine(awaitable):
        awaitable.close()  # else Python warns that it was never awaited
    raise CannotBlockHere(
        f"{_label(awaitable)} cannot be waited for inside a running event loop: it would block that loop. "
        f"Await it instead."
    )


async def _finish(awaitable: Awaitable[T], timeout: float | None) -> T:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await awaitable
    except TimeoutError as error:
        if not limit.expired():
            raise  # the awaitable's own TimeoutError
        raise LightbusTimeout(
            f"{_label(awaitable)} did not end within {timeout} s and was cancelled. Allow it more time."
        ) from error


def _label(awaitable: Awaitable[object]) -> str:
    return f"{getattr(awaitable, '__qualname__', type(awaitable).__name__)}()"
