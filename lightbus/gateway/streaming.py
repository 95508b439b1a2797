"""The streams that are open: what they follow is read once for all that follow the same."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..cli.support.connection import Connection
from ..phrases import INTERNAL_ERROR
from ..web.live_events import LiveEvents
from .cursor import Cursor
from .event_reader import EventReader
from .problems import Refusal
from .streams import EventStream

__all__ = ["MAX_STREAMS", "MAX_STREAMS_OF_ONE", "Streaming"]

logger = logging.getLogger("lightbus.gateway")

MAX_STREAMS = 200
"""Streams that are open at the same time."""

MAX_STREAMS_OF_ONE = 50
"""Streams of one client that are open at the same time."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Followed:
    """What is read while it is followed: by how many streams, and since when they may begin."""

    reader: EventReader
    ready: asyncio.Future[None]
    left: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0


class Streaming:
    """
    All streams. Made and used on one event loop.

    Attributes:
        closing: ends them, once it is set.

    Args:
        bus: reads what journals keep.
        connect: makes the client that listens.
        wants: whether events of an API are of interest at all.

    """

    def __init__(self, bus: Connection, connect: Callable[[], Connection], wants: Callable[[str], bool]) -> None:
        self.closing = asyncio.Event()
        self._bus = bus
        self._live = LiveEvents(connect, name="gateway", wants=wants)
        self._followed: dict[tuple[str, str], _Followed] = {}
        self._open: Counter[str] = Counter()
        self._holding: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._open.total()

    @property
    def is_listening(self) -> bool:
        """Whether publishers send their events here."""
        return self._live.is_listening

    async def join(self, client: str, api: str, event: str) -> EventReader:
        """Return what a stream follows; `answer` is to be called next. Raises Refusal, NotReachable."""
        if self.count >= MAX_STREAMS or self._open[client] >= MAX_STREAMS_OF_ONE:
            most = f"{MAX_STREAMS_OF_ONE} for each client, {MAX_STREAMS} for all"
            raise Refusal(503, "too_many_streams", f"As many streams are open as may be: {most}.", Retry_After="10")
        followed = self._followed.get((api, event)) or self._begin(api, event)
        self._open[client] += 1
        followed.streams += 1
        try:
            await asyncio.shield(followed.ready)
        except BaseException:
            self._leave(client, followed)
            raise
        return followed.reader

    def answer(self, client: str, reader: EventReader, cursor: Cursor) -> EventStream:
        """Return the answer of a stream."""
        followed = self._followed[reader.api, reader.event]
        return EventStream(reader, cursor, self.closing, lambda: self._leave(client, followed))

    async def close(self) -> None:
        """Listen to nothing any more."""
        self.closing.set()
        for followed in list(self._followed.values()):
            followed.left.set()
        await asyncio.gather(*self._holding)
        await self._live.close()

    def _begin(self, api: str, event: str) -> _Followed:
        followed = _Followed(
            reader=EventReader(self._bus, api, event), ready=asyncio.get_running_loop().create_future()
        )
        self._followed[api, event] = followed
        task = asyncio.create_task(self._hold(followed))
        self._holding.add(task)
        task.add_done_callback(self._holding.discard)
        return followed

    async def _hold(self, followed: _Followed) -> None:
        """Have it be read until no stream follows it."""
        try:
            async with self._live.viewing(followed.reader), followed.reader.reading():
                followed.ready.set_result(None)
                await followed.left.wait()
        except Exception as error:
            if followed.ready.done():
                api = followed.reader.api
                logger.exception("The listener of the streams of %s could not be ended: %s", api, INTERNAL_ERROR)
            else:
                followed.ready.set_exception(error)
                followed.ready.exception()  # whoever wanted to follow may be gone by now
        finally:
            self._forget(followed)

    def _leave(self, client: str, followed: _Followed) -> None:
        self._open[client] -= 1
        self._open += Counter()  # without those that have none
        followed.streams -= 1
        if not followed.streams:
            self._forget(followed)
            followed.left.set()

    def _forget(self, followed: _Followed) -> None:
        name = followed.reader.api, followed.reader.event
        if self._followed.get(name) is followed:
            del self._followed[name]
