"""Several streams as one, so that all windows of a browser get along with one connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

__all__ = ["together"]


async def together(sources: Sequence[AsyncGenerator[bytes, None]]) -> AsyncIterator[tuple[str, bytes]]:
    """
    Yield what streams tell as it comes, each with the number of the stream, from "0". It ends when all have ended.

    A stream waits while nobody takes what it, or another one, has told. Raises what one of them raises: who reads
    opens all of them again then, as it would open the one alone.
    """
    told: asyncio.Queue[tuple[str, bytes] | Exception | None] = asyncio.Queue(maxsize=1)

    async def pass_on(name: str, values: AsyncGenerator[bytes, None]) -> None:
        end = None
        try:
            async with contextlib.aclosing(values):
                async for value in values:
                    await told.put((name, value))
        except Exception as error:
            end = error
        await told.put(end)

    tasks = [asyncio.create_task(pass_on(str(number), values)) for number, values in enumerate(sources)]
    try:
        running = len(tasks)
        while running:
            one = await told.get()
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
