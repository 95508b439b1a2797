"""Events as a stream of server-sent events, which a client takes up again where it stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Set

from starlette.types import Receive, Scope, Send

from ..exceptions import LightbusException
from ..recurring import RecurringLog
from .cursor import MAX_TEXT, PLAIN_TEXT, Cursor
from .event_reader import EventReader, Item

__all__ = ["HEARTBEAT", "RETRY", "EventStream", "frames_of"]

failures = RecurringLog(logging.getLogger("lightbus.gateway"))

HEARTBEAT = 15.0
"""Seconds after which a stream shows that it is alive, where there is nothing to tell."""

READ_AGAIN = 1.0
"""Seconds after which is read again what a publisher keeps that did not answer."""

GAP_AFTER = 7.0
"""Seconds after which journals that nobody has are told of: publishers are asked anew meanwhile (`LOOK_EVERY`)."""

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
    number, unkept, frames = reader.number, reader.unkept, _Frames(cursor)
    yield f"retry: {RETRY}\n".encode() + frames.place() + b"\n"
    unknown_until = time.monotonic() + GAP_AFTER if cursor.places else math.inf
    is_behind = True
    while True:
        if is_behind:
            try:
                async for item in reader.past(cursor.places):
                    if frame := frames.of(item):
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
        for frame in frames.together(items or []):
            yield frame
        number += len(items or ())
        unkept += sum(not item.journal for item in items or ())
        if frame := frames.rest():
            yield frame
        before = time.monotonic()
        if before >= unknown_until:
            unknown_until = math.inf
            if frame := _gap(cursor.places.keys() - reader.places.keys()):
                yield frame
        await reader.wait(number, min(HEARTBEAT, max(0.0, unknown_until - before)))
        if reader.number == number and time.monotonic() - before >= HEARTBEAT / 2:
            yield frames.beat(reader.places)


class _Frames:
    """What one stream sends: events, and its place behind them. It moves the place on."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._unplaced = 0
        """Bytes of events that were sent since the place was."""
        self._length = 0
        """Characters of the place when it was sent last."""
        self._is_told = False

    def of(self, item: Item) -> bytes:
        """Return the frame of an event, and move the place behind it; nothing where it was given before."""
        cursor = self._cursor
        if not item.journal:
            return b"data: " + item.data + b"\n\n"
        is_wanted = cursor.admits(item.journal, item.sequence, item.published_at, is_old=item.is_old)
        if is_wanted or item.journal in cursor.places:
            cursor.places[item.journal] = max(item.sequence, cursor.places.get(item.journal, 0))
        if not is_wanted:
            return b""
        self._unplaced += len(item.data)
        # That of many journals is longer than most events: it is sent behind as many bytes as it has itself.
        is_due = self._length <= PLAIN_TEXT or self._unplaced >= self._length
        return b"data: " + item.data + b"\n" + (self.place() if is_due else b"") + b"\n"

    def together(self, items: list[Item]) -> list[bytes]:
        """Return the frames of events, put together to larger ones."""
        parts: list[bytearray] = [bytearray()]
        for item in items:
            parts[-1] += self.of(item)
            if len(parts[-1]) >= AT_ONCE:
                parts.append(bytearray())
        return [bytes(part) for part in parts if part]

    def rest(self) -> bytes:
        """Return the place where it was not sent behind the last event."""
        return self.place() + b"\n" if self._unplaced else b""

    def beat(self, places: dict[str, int]) -> bytes:
        """Return what shows that a stream is alive: it moves the place over events that were others', too."""
        for journal, place in places.items():
            self._cursor.places[journal] = max(place, self._cursor.places.get(journal, 0))
        return b": alive\n" + self.place() + b"\n"

    def place(self) -> bytes:
        """Return the line of the place; where no request's head would hold it, what says so, once."""
        text = str(self._cursor)
        self._unplaced, self._length = 0, len(text)
        if len(text) <= MAX_TEXT:
            return f"id: {text}\n".encode()
        if self._is_told:
            return b""
        self._is_told = True
        count = len(self._cursor.places)
        detail = f"There are {count} journals, more than an id can name: from here on this stream has no ids."
        failures.log(
            "place", logging.WARNING, "A stream cannot be taken up again where it stops. %s", detail, changes=False
        )
        return b"\nevent: no_place\ndata: " + json.dumps({"journals": count, "detail": detail}).encode() + b"\n\n"


def _gap(unknown: Set[str]) -> bytes:
    """Return what says that journals are not there in which a stream is to go on; nothing where all of them are."""
    if not unknown:
        return b""
    detail = (
        f"No publisher that answers has {len(unknown)} of the journals of Last-Event-ID: of what they kept behind its "
        "place nothing can be given, unless they come back. Was it from this bus?"
    )
    return b"event: gap\ndata: " + json.dumps({"journals": len(unknown), "detail": detail}).encode() + b"\n\n"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
