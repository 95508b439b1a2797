"""The open streams: streams of the same events share one reader."""

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
"""The most streams open at the same time."""

MAX_STREAMS_OF_ONE = 50
"""The most streams of one client open at the same time."""


@dataclass(slots=True, kw_only=True, eq=False)
class _SharedReader:
    """A reader with the number of its streams, a future that is done once it reads, and the event that ends it."""

    reader: EventReader
    ready: asyncio.Future[None]
    left: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0


class Streaming:
    """
    All open streams. Made and used on one event loop.

    Attributes:
        closing: ends all streams once it is set.

    Args:
        bus: the client that reads the journals, and listens to events.
        wants: tells whether to listen to the events of an API.

    """

    def __init__(self, bus: Connection, wants: Callable[[str], bool]) -> None:
        self.closing = asyncio.Event()
        self._bus = bus
        self._live = LiveEvents(bus, name="gateway", wants=wants)
        self._followed: dict[tuple[str, str], _SharedReader] = {}
        self._open: Counter[str] = Counter()
        self._holding: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """The number of open streams."""
        return self._open.total()

    @property
    def is_listening(self) -> bool:
        """Whether publishers send their events here."""
        return self._live.is_listening

    async def join(self, client: str, api: str, event: str) -> EventReader:
        """Return the reader for a new stream; call `answer` next. Raises Refusal, NotReachable."""
        if self._open[client] >= MAX_STREAMS_OF_ONE:
            text = f"This client has {MAX_STREAMS_OF_ONE} streams open, as many as it may: close one first."
            raise Refusal(429, "too_many_streams", text, Retry_After="10")
        if self.count >= MAX_STREAMS:
            text = f"{MAX_STREAMS} streams are open, as many as this gateway serves: try again later."
            raise Refusal(503, "too_many_streams", text, Retry_After="10")
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
        """Return the response that streams the events of a reader."""
        followed = self._followed[reader.api, reader.event]
        return EventStream(reader, cursor, self.closing, lambda: self._leave(client, followed))

    async def close(self) -> None:
        """End the streams, the readers, and the listeners."""
        self.closing.set()
        for followed in list(self._followed.values()):
            followed.left.set()
        await asyncio.gather(*self._holding)
        await self._live.close()

    def _begin(self, api: str, event: str) -> _SharedReader:
        followed = _SharedReader(
            reader=EventReader(self._bus, api, event), ready=asyncio.get_running_loop().create_future()
        )
        self._followed[api, event] = followed
        task = asyncio.create_task(self._run_reader(followed))
        self._holding.add(task)
        task.add_done_callback(self._holding.discard)
        return followed

    async def _run_reader(self, followed: _SharedReader) -> None:
        """Run a reader until its last stream has ended."""
        try:
            with self._live.viewing(followed.reader):
                async with followed.reader.reading():
                    followed.ready.set_result(None)
                    await followed.left.wait()
        except Exception as error:
            if followed.ready.done():
                api = followed.reader.api
                logger.exception("The listener of the streams of %s could not be ended: %s", api, INTERNAL_ERROR)
            else:
                followed.ready.set_exception(error)
                followed.ready.exception()  # mark it as retrieved: the streams that awaited it may have gone
        finally:
            self._forget(followed)

    def _leave(self, client: str, followed: _SharedReader) -> None:
        self._open[client] -= 1
        self._open += Counter()  # drops the clients without a stream
        followed.streams -= 1
        if not followed.streams:
            self._forget(followed)
            followed.left.set()

    def _forget(self, followed: _SharedReader) -> None:
        name = followed.reader.api, followed.reader.event
        if self._followed.get(name) is followed:
            del self._followed[name]
