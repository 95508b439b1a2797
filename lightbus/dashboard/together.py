"""Several streams as one, so that all windows of a browser get along with one connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

__all__ = ["together"]


async def together(sources: Sequence[AsyncGenerator[bytes, None]]) -> AsyncIterator[tuple[str, bytes]]:
    """
    Yield what streams tell as it comes, each with the number of the stream, from "0". It ends when all have ended.

    A stream waits while nobody takes what it, or another one, has told.
    """
    told: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(maxsize=1)

    async def pass_on(name: str, values: AsyncGenerator[bytes, None]) -> None:
        async with contextlib.aclosing(values):
            async for value in values:
                await told.put((name, value))
        await told.put(None)

    tasks = [asyncio.create_task(pass_on(str(number), values)) for number, values in enumerate(sources)]
    try:
        running = len(tasks)
        while running:
            if (one := await told.get()) is None:
                running -= 1
            else:
                yield one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
