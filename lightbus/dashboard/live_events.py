"""
The events of the bus as they happen, for the pages that show them.

While somebody looks, a client of its own listens to everything, in no group: as soon as nobody does it leaves, and
publishers have nothing to send. What comes faster than anybody reads is counted, and not shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from fnmatch import fnmatchcase
from typing import Any

from ..cli.support.connection import Connection
from ..config.features import Feature
from ..deadline import Deadline
from ..message import EventMessage
from ..wire.plain import json_form
from .answers import encoded

__all__ = ["AT_ONCE", "EVERY", "LiveEvents", "Viewer"]

EVERY = 0.25
"""Seconds between two portions for a page."""

AT_ONCE = 50
"""Events of a portion: more nobody can read."""

LOOK_EVERY = 1.0
"""Seconds between two looks for APIs that came meanwhile."""


class Viewer:
    """
    What one page is to be shown.

    Args:
        pattern: names, with wildcards.
        text: what has to occur in the arguments, in the form of JSON; small letters.

    """

    def __init__(self, pattern: str, text: str) -> None:
        self._pattern = pattern or "*"
        self._text = text.lower()
        self._events: deque[EventMessage] = deque(maxlen=AT_ONCE)
        self._passed_over = 0

    def add(self, message: EventMessage) -> None:
        """Take an event that is wanted by its name; the arguments are looked into only where a text is asked for."""
        if not fnmatchcase(message.canonical_name, self._pattern):
            return
        if self._text and self._text not in encoded(message.kwargs).decode().lower():
            return
        self._passed_over += len(self._events) == AT_ONCE
        self._events.append(message)

    def take(self) -> dict[str, Any]:
        """Return what came since the last time, oldest first, and how many more there were."""
        told = {"events": [_fields(each) for each in self._events], "passed_over": self._passed_over}
        self._events.clear()
        self._passed_over = 0
        return told


class LiveEvents:
    """All who look at events. Made and used on one event loop; `connect` makes the client that listens."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._viewers: set[Viewer] = set()
        self._bus: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._door = asyncio.Lock()

    @property
    def is_listening(self) -> bool:
        """Whether publishers send their events here."""
        return self._bus is not None

    @contextlib.asynccontextmanager
    async def viewing(self, viewer: Viewer) -> AsyncIterator[None]:
        """Show events to a viewer while this is open."""
        self._viewers.add(viewer)
        try:
            async with self._door:
                if self._bus is None:
                    await self._begin()
            yield
        finally:
            self._viewers.discard(viewer)
            await asyncio.shield(self._end_if_left())

    async def close(self) -> None:
        """Show nothing any more."""
        self._viewers.clear()
        await self._end_if_left()

    async def _begin(self) -> None:
        bus = self._connect()
        bus.client.set_features([Feature.EVENTS])
        try:
            await bus.client.start_worker()
        except BaseException:
            await bus.close()
            raise
        self._bus = bus
        self._task = asyncio.create_task(self._listen_to_all(bus))

    async def _end_if_left(self) -> None:
        async with self._door:
            if self._viewers or self._bus is None:
                return
            bus, self._bus = self._bus, None
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            await bus.client.stop_worker()
            await bus.close()

    async def _listen_to_all(self, bus: Connection) -> None:
        # Else it would be connected only to who is wanted for something, and to who was quick to come by himself.
        await bus.client.engine.questions.look_around(Deadline.after(bus.options.wait))
        known: set[str] = set()
        while True:
            for api in {api for api, _ in bus.client.engine.snapshot.events} - known:
                known.add(api)
                if not api.startswith("internal."):
                    bus.client.listen_for_event(api, "*", self._on_event, listener_name="dashboard", group=None)
            await asyncio.sleep(LOOK_EVERY)

    async def _on_event(self, message: EventMessage, /, **_: Any) -> None:
        for viewer in self._viewers:
            viewer.add(message)


def _fields(message: EventMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "native_id": message.native_id,
        "name": message.canonical_name,
        "version": message.version,
        "published_at": message.published_at,
        "publisher": message.publisher,
        "kwargs": json_form(message.kwargs, finite=True),
    }
