"""Merges several streams, so that all windows of a browser share one connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

__all__ = ["merged"]


async def merged(sources: Sequence[AsyncGenerator[bytes, None]]) -> AsyncIterator[tuple[str, bytes]]:
    """
    Yield the values of all streams as they come, each with the number of its stream, from "0"; end when all have ended.

    A stream waits while the last value of any stream is not taken. Raises the error of any of them: the client then
    opens all of them again, as it would open a single one.
    """
    queue: asyncio.Queue[tuple[str, bytes] | Exception | None] = asyncio.Queue(maxsize=1)

    async def pass_on(name: str, values: AsyncGenerator[bytes, None]) -> None:
        end: Exception | None = None
        try:
            async with contextlib.aclosing(values):
                async for value in values:
                    await queue.put((name, value))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            end = RuntimeError("A stream was cancelled by what it waited for.")
        except Exception as error:
            end = error
        await queue.put(end)

    tasks = [asyncio.create_task(pass_on(str(number), values)) for number, values in enumerate(sources)]
    try:
        running = len(tasks)
        while running:
            one = await queue.get()
            if isinstance(one, Exception):
                raise one
            if one is None:
                running -= 1
            else:
                yield one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
