"""Events as a stream of server-sent events, which a client can resume where it stopped."""

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
"""Seconds without an event after which a stream sends a heartbeat."""

READ_AGAIN = 1.0
"""Seconds after which journals are read again if a publisher did not answer."""

GAP_AFTER = 7.0
"""Seconds after which a stream reports journals that no publisher has; meanwhile it asks again (`LOOK_EVERY`)."""

RETRY = 2000
"""Milliseconds after which a browser reconnects when the stream has ended."""

NOT_READ = b": A publisher does not answer at the moment. Its stored events follow as soon as it does.\n\n"
"""The comment that a client gets while stored events cannot be read."""

AT_ONCE = 64 * 1024
"""Bytes of events that are sent together, if that many are waiting."""


class EventStream:
    """
    A response that lasts until the client disconnects, or the gateway stops.

    Args:
        reader: the source of the events.
        cursor: where to begin; updated as events are sent.
        closing: ends the response once it is set.
        on_end: called when the response has ended.

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
    """Yield the frames of a stream, endlessly."""
    number, unkept, frames = reader.number, reader.unkept, _Frames(cursor)
    yield f"retry: {RETRY}\n".encode() + frames.place() + b"\n"
    unknown_until = time.monotonic() + GAP_AFTER if cursor.places else math.inf
    is_behind = True
    while True:
        if is_behind:
            try:
                async for item in reader.stored_after(cursor.places):
                    if frame := frames.of(item):
                        yield frame
            except LightbusException as error:  # later events would move the cursor past those that were not read
                # Not the text of the error, which names hosts and processes: clients must not see them.
                text = "Stored events of %s cannot be read for a stream, which is tried again: %s"
                failures.log(("read", reader.api), logging.WARNING, text, reader.api, error)
                yield NOT_READ
                await asyncio.sleep(READ_AGAIN)
                continue
        items = reader.since(number)
        if is_behind := items is None:  # reading took longer than the latest events are kept in memory
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
    """Makes the frames of one stream: events, and the cursor after them, which it advances."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._unplaced = 0
        """Bytes of events sent since the cursor was sent."""
        self._length = 0
        """Characters of the cursor when it was sent last."""
        self._is_limit_reported = False

    def of(self, item: Item) -> bytes:
        """Return the frame of an event, and advance the cursor past it; empty if the event was sent before."""
        cursor = self._cursor
        if not item.journal:
            return b"data: " + item.data + b"\n\n"
        is_wanted = cursor.admits(item.journal, item.sequence, item.published_at, is_old=item.is_old)
        if is_wanted or item.journal in cursor.places:
            cursor.places[item.journal] = max(item.sequence, cursor.places.get(item.journal, 0))
        if not is_wanted:
            return b""
        self._unplaced += len(item.data)
        # The cursor of many journals is longer than most events: it is sent after at least as many bytes of events.
        is_due = self._length <= PLAIN_TEXT or self._unplaced >= self._length
        return b"data: " + item.data + b"\n" + (self.place() if is_due else b"") + b"\n"

    def together(self, items: list[Item]) -> list[bytes]:
        """Return the frames of events, joined into larger ones."""
        parts: list[bytearray] = [bytearray()]
        for item in items:
            parts[-1] += self.of(item)
            if len(parts[-1]) >= AT_ONCE:
                parts.append(bytearray())
        return [bytes(part) for part in parts if part]

    def rest(self) -> bytes:
        """Return the frame of the cursor if it was not sent after the last event."""
        return self.place() + b"\n" if self._unplaced else b""

    def beat(self, places: dict[str, int]) -> bytes:
        """Return a heartbeat; it advances the cursor past events of other names, too."""
        for journal, place in places.items():
            self._cursor.places[journal] = max(place, self._cursor.places.get(journal, 0))
        return b": alive\n" + self.place() + b"\n"

    def place(self) -> bytes:
        """Return the line with the cursor; if it is too long for a request's head, an event that says so, once."""
        text = str(self._cursor)
        self._unplaced, self._length = 0, len(text)
        if len(text) <= MAX_TEXT:
            return f"id: {text}\n".encode()
        if self._is_limit_reported:
            return b""
        self._is_limit_reported = True
        count = len(self._cursor.places)
        detail = f"There are {count} journals, more than an id can name: from here on this stream has no ids."
        failures.log("place", logging.WARNING, "A stream cannot be resumed where it stops. %s", detail, changes=False)
        return b"\nevent: no_place\ndata: " + json.dumps({"journals": count, "detail": detail}).encode() + b"\n\n"


def _gap(unknown: Set[str]) -> bytes:
    """Return the event that reports missing journals of the cursor; empty if none is missing."""
    if not unknown:
        return b""
    detail = (
        f"No reachable publisher has {len(unknown)} of the journals of Last-Event-ID: their events after that position "
        "cannot be sent, unless they come back. Was the id from this bus?"
    )
    return b"event: gap\ndata: " + json.dumps({"journals": len(unknown), "detail": detail}).encode() + b"\n\n"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
