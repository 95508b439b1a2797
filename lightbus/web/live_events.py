"""
The events of the bus as they happen, for viewers.

While there are viewers, a separate client listens, without a group; when the last viewer leaves, the client closes, so
that publishers send nothing here.
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
"""Seconds between two checks for new APIs."""


class Viewer(Protocol):
    """A receiver of live events."""

    def add(self, events: RawEvents) -> None:
        """Take undecoded events of one name. Called for all events: decode no more of them than needed."""
        ...


class LiveEvents:
    """
    The viewers, and the client that listens for them. Made and used on one event loop.

    Attributes:
        apis: the APIs listened to.

    Args:
        connect: makes the client that listens.
        name: the name of the listener, as other processes list it.
        wants: tells whether to listen to an API; by default to every API that is not internal.

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
        self._lock = asyncio.Lock()

    @property
    def is_listening(self) -> bool:
        """Whether publishers send their events here."""
        return self._bus is not None

    @contextlib.asynccontextmanager
    async def viewing(self, viewer: Viewer) -> AsyncIterator[None]:
        """Pass events to a viewer while the body runs."""
        self._viewers.add(viewer)
        try:
            async with self._lock:
                if self._bus is None:
                    await self._begin()
            yield
        finally:
            self._viewers.discard(viewer)
            await asyncio.shield(self._close_if_unused())

    async def close(self) -> None:
        """Drop all viewers, and close the client that listens."""
        self._viewers.clear()
        await self._close_if_unused()

    async def _begin(self) -> None:
        bus = self._connect()
        bus.client.set_features([Feature.EVENTS])
        try:
            await bus.client.start_worker()
        except BaseException:
            await bus.close()
            raise
        worker = bus.client.worker
        assert worker is not None  # started just above
        self._bus = bus
        self._task = asyncio.create_task(self._listen_to_all(bus, worker))

    async def _close_if_unused(self) -> None:
        async with self._lock:
            if self._viewers or self._bus is None:
                return
            bus, self._bus = self._bus, None
            self.apis.clear()
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            await bus.client.stop_worker()
            await bus.close()
            # The connections used some ten megabytes. In a thread, so that other requests are answered meanwhile.
            await asyncio.to_thread(release_freed_memory)

    async def _listen_to_all(self, bus: Connection, worker: Worker) -> None:
        # Without it the client connects only to peers that it needs, and to those that connect early by themselves.
        await bus.client.engine.questions.discover_all(Deadline.after(bus.options.wait))
        seen: set[str] = set()
        async with asyncio.TaskGroup() as adding:  # each task waits until its publishers confirm it
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
        except Exception:  # the events of other APIs still arrive
            logger.exception("Events of %s cannot be listened to: this is a fault of Lightbus", api)

    def _on_events(self, events: RawEvents) -> None:
        for viewer in self._viewers:
            viewer.add(events)
