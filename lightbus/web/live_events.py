"""
The events of the bus as they happen, for who looks at them.

While somebody looks, a client of its own listens, in no group: as soon as nobody does it leaves, and publishers have
nothing to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from ..adapters.host.allocator import release_freed_memory
from ..cli.support.connection import Connection
from ..config.features import Feature
from ..deadline import Deadline
from ..engine.worker import Worker
from ..events.listening.raw_events import RawEvents
from ..listener import Listener

__all__ = ["LiveEvents", "Viewer"]

logger = logging.getLogger("lightbus.web")

LOOK_EVERY = 1.0
"""Seconds between two looks for APIs that came meanwhile."""


class Viewer(Protocol):
    """Who is shown events."""

    def add(self, events: RawEvents) -> None:
        """Take events of one name. Called for all that are listened to: it decodes no more of them than it needs."""
        ...


class LiveEvents:
    """
    All who look at events. Made and used on one event loop.

    Attributes:
        apis: that are listened to.

    Args:
        connect: makes the client that listens.
        name: of the listener, in the lists of others.
        wants: whether an API is listened to; every one that is not internal where it is not given.

    """

    def __init__(
        self, connect: Callable[[], Connection], *, name: str, wants: Callable[[str], bool] = lambda api: True
    ) -> None:
        self._connect = connect
        self._name = name
        self._wants = wants
        self.apis: set[str] = set()
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
        worker = bus.client.worker
        assert worker is not None  # it was started just now
        self._bus = bus
        self._task = asyncio.create_task(self._listen_to_all(bus, worker))

    async def _end_if_left(self) -> None:
        async with self._door:
            if self._viewers or self._bus is None:
                return
            bus, self._bus = self._bus, None
            self.apis.clear()
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            await bus.client.stop_worker()
            await bus.close()
            # Of some ten megabytes that its connections had; in a thread, since others are answered meanwhile.
            await asyncio.to_thread(release_freed_memory)

    async def _listen_to_all(self, bus: Connection, worker: Worker) -> None:
        # Else it would be connected only to who is wanted for something, and to who was quick to come by himself.
        await bus.client.engine.questions.discover_all(Deadline.after(bus.options.wait))
        seen: set[str] = set()
        async with asyncio.TaskGroup() as adding:  # each waits until its publishers confirm it
            while True:
                for api in {api for api, _ in bus.client.engine.snapshot.events} - seen:
                    seen.add(api)
                    if not api.startswith("internal.") and self._wants(api):
                        adding.create_task(self._listen_to(worker, api))
                        self.apis.add(api)
                await asyncio.sleep(LOOK_EVERY)

    async def _listen_to(self, worker: Worker, api: str) -> None:
        listener = Listener(api=api, events=("*",), name=self._name, function=self._on_events, takes_raw=True)
        try:
            await worker.add_listener(listener)
        except Exception:  # those of others come all the same
            logger.exception("Events of %s cannot be listened to: this is a fault of Lightbus", api)

    def _on_events(self, events: RawEvents) -> None:
        for viewer in self._viewers:
            viewer.add(events)
