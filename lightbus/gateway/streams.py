"""Events as a stream of server-sent events, which a client takes up again where it stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from starlette.types import Receive, Scope, Send

from ..exceptions import LightbusException
from .cursor import MAX_TEXT, Cursor
from .event_reader import EventReader, Item

__all__ = ["HEARTBEAT", "RETRY", "EventStream", "frames_of"]

HEARTBEAT = 15.0
"""Seconds after which a stream shows that it is alive, where there is nothing to tell."""

READ_AGAIN = 1.0
"""Seconds after which is read again what a publisher keeps that did not answer."""

RETRY = 2000
"""Milliseconds after which a browser comes again, when the stream has ended."""

AT_ONCE = 64 * 1024
"""Bytes of events that are sent together, if there are so many."""


class EventStream:
    """
    An answer that goes on until the client goes, or the gateway ends.

    Args:
        reader: what is followed.
        cursor: where to begin; it moves on.
        closing: ends it.
        on_end: is called when it is over.

    """

    def __init__(self, reader: EventReader, cursor: Cursor, closing: asyncio.Event, on_end: Callable[[], None]) -> None:
        self._reader = reader
        self._cursor = cursor
        self._closing = closing
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events."""
        tasks = [asyncio.ensure_future(each) for each in (self._send(send), _gone(receive), self._closing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            sending, gone, _ = tasks
            is_gone = gone.done()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not is_gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            if sending.done() and not sending.cancelled() and (error := sending.exception()) is not None:
                raise error
        finally:
            for task in tasks:
                task.cancel()
            self._on_end()

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with contextlib.aclosing(frames_of(self._reader, self._cursor)) as frames:
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})


async def frames_of(reader: EventReader, cursor: Cursor) -> AsyncGenerator[bytes, None]:
    """Yield what a stream sends, without an end."""
    number, unkept = reader.number, reader.unkept
    yield f"retry: {RETRY}\n".encode() + _place(cursor) + b"\n"
    is_behind = True
    while True:
        if is_behind:
            try:
                async for item in reader.past(cursor.places):
                    if frame := _given(item, cursor):
                        yield frame
            except LightbusException as error:  # what came next would hide what was not read
                yield f": {_line(error)}\n\n".encode()
                await asyncio.sleep(READ_AGAIN)
                continue
        items = reader.since(number)
        if is_behind := items is None:  # it took longer than the latest events are held
            lost, number, unkept = reader.unkept - unkept, reader.number, reader.unkept
            if lost:
                yield f'event: dropped\ndata: {{"count":{lost}}}\n\n'.encode()
            continue
        for frame in _together(items or [], cursor):
            yield frame
        number += len(items or ())
        unkept += sum(not item.journal for item in items or ())
        before = time.monotonic()
        await reader.wait(number, HEARTBEAT)
        if reader.number == number and time.monotonic() - before >= HEARTBEAT / 2:
            yield _beat(reader, cursor)


def _beat(reader: EventReader, cursor: Cursor) -> bytes:
    """Return what shows that a stream is alive: it moves the place over events that were others', too."""
    for journal, place in reader.places.items():
        cursor.places[journal] = max(place, cursor.places.get(journal, 0))
    return b": alive\n" + _place(cursor) + b"\n"


def _together(items: list[Item], cursor: Cursor) -> list[bytes]:
    """Return the frames of events, put together to larger ones."""
    parts: list[bytearray] = [bytearray()]
    for item in items:
        parts[-1] += _given(item, cursor)
        if len(parts[-1]) >= AT_ONCE:
            parts.append(bytearray())
    return [bytes(part) for part in parts if part]


def _given(item: Item, cursor: Cursor) -> bytes:
    """Return the frame of an event, and move the place behind it; nothing where the stream was given it before."""
    if not item.journal:
        return b"data: " + item.data + b"\n\n"
    is_wanted = cursor.admits(item.journal, item.sequence, item.published_at, is_old=item.is_old)
    if is_wanted or item.journal in cursor.places:
        cursor.places[item.journal] = max(item.sequence, cursor.places.get(item.journal, 0))
    return b"data: " + item.data + b"\n" + _place(cursor) + b"\n" if is_wanted else b""


def _place(cursor: Cursor) -> bytes:
    """Return the line of a place; none where there are so many journals that no request's head would hold it."""
    text = str(cursor)
    return f"id: {text}\n".encode() if len(text) <= MAX_TEXT else b""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
