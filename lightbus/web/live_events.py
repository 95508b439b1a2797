"""
The events of the bus as they happen, for viewers.

While there are viewers, this process listens to each API, without a group. When the last viewer leaves, the listeners
are removed, so that publishers send nothing here; the connections to the publishers are kept for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from ..adapters.host.allocator import release_freed_memory
from ..cli.support.connection import Connection, passes
from ..engine.raw_listeners import RawListeners, raw_listeners
from ..events.listening.raw_events import RawEvents
from ..listener import Listener
from ..membership.dialer import EVERYTHING
from ..recurring import RecurringLog

__all__ = ["LiveEvents", "Viewer"]

logger = logging.getLogger("lightbus.web")

LOOK_EVERY = 1.0
"""Seconds between two checks for new APIs, and for listeners that have to be added again."""

LINGER = 1.0
"""Seconds without a viewer after which the listeners are removed: a page that is loaded again is back before."""

CLOSE_AFTER = 300.0
"""
Seconds without a viewer after which the connections to the publishers are closed.

Until then each costs its publisher a heartbeat a second, and a hundred of them some ten megabytes here.
"""

ADD_TIMEOUT = 60.0
"""Seconds after which the attempt to add a listener is given up, and repeated: an event backend may not answer."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Shortest and longest pause, in seconds, before a listener is added again that could not be."""

REMOVE_TIMEOUT = 10.0
"""Seconds for removing listeners; the next viewer does not wait for an event backend that does not answer."""


class Viewer(Protocol):
    """A receiver of live events."""

    def add(self, events: RawEvents) -> None:
        """Take undecoded events of one name. Called for all events: decode no more of them than needed."""
        ...


class _Added(NamedTuple):
    """A listener, and the task that adds it."""

    listener: Listener
    adding: asyncio.Task[None]


class LiveEvents:
    """
    The viewers, and the listeners for them. Made and used on one event loop.

    Args:
        bus: the client that listens.
        name: the name of the listener, as other processes list it.
        wants: tells whether to listen to an API; by default to every API that is not internal.

    """

    def __init__(self, bus: Connection, *, name: str, wants: Callable[[str], bool] = lambda api: True) -> None:
        self._bus = bus
        self._name = name
        self._wants = wants
        self._viewers: set[Viewer] = set()
        self._is_viewed = asyncio.Event()
        self._added: dict[str, _Added] = {}
        """The listeners by API."""
        self._listeners: RawListeners | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = RecurringLog(logger)

    @property
    def apis(self) -> set[str]:
        """The APIs listened to."""
        return set(self._added)

    @property
    def is_listening(self) -> bool:
        """Whether publishers send their events here."""
        return bool(self._added)

    @contextlib.contextmanager
    def viewing(self, viewer: Viewer) -> Iterator[None]:
        """Pass events to a viewer while the body runs."""
        self._viewers.add(viewer)
        self._is_viewed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._is_viewed.clear()

    async def close(self) -> None:
        """Drop all viewers, and close the connections to the publishers."""
        self._viewers.clear()
        self._is_viewed.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end()

    async def _run(self) -> None:
        """Listen while there are viewers. Whatever fails is tried again: otherwise all pages would stay silent."""
        while True:
            try:
                if self._is_viewed.is_set():
                    await self._look()
                    await asyncio.sleep(LOOK_EVERY)
                elif not await passes(self._is_viewed, LINGER):
                    await self._pause()
            except Exception as error:
                text = "Live events stop for a moment: %s: %s"
                self._failures.log("run", logging.ERROR, text, type(error).__name__, error, exc_info=error)
                await asyncio.sleep(LOOK_EVERY)

    async def _pause(self) -> None:
        """Listen to nothing until a viewer comes; close the connections if none does within `CLOSE_AFTER` seconds."""
        await self._remove(list(self._added))
        await _release_memory()
        if not await passes(self._is_viewed, CLOSE_AFTER) and self._listeners is not None:
            self._listeners.close_unused()
            await _release_memory()
        await self._is_viewed.wait()

    async def _look(self) -> None:
        """Listen to new APIs, and again to those whose listener has failed."""
        engine = self._bus.client.engine
        listeners = self._listeners
        if listeners is None or listeners.is_over:
            listeners = await self._begin()
        engine.wanted.add(EVERYTHING)  # so that all peers are connected to, also those that are found later
        await self._remove(
            [api for api, (it, adding) in self._added.items() if adding.done() and not listeners.runs(it)]
        )
        for api in sorted({api for api, _ in engine.snapshot.events} - self.apis):
            if not api.startswith("internal.") and self._wants(api):
                listener = Listener(api=api, events=("*",), name=self._name, function=self._on_events, takes_raw=True)
                # Each in its own task: it waits until its publishers confirm it.
                self._added[api] = _Added(listener, asyncio.create_task(self._add(listeners, listener)))

    async def _begin(self) -> RawListeners:
        """Return new listeners on this loop; end earlier ones, whose node has gone."""
        await self._end()
        client = self._bus.client
        self._listeners = await raw_listeners(client.engine, client.api_registry)
        return self._listeners

    async def _end(self) -> None:
        await self._remove(list(self._added))
        listeners, self._listeners = self._listeners, None
        if listeners is not None:
            await self._end_in_time(listeners.stop())

    async def _add(self, listeners: RawListeners, listener: Listener) -> None:
        """Add a listener; if that fails or takes too long, try again until it is removed."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(ADD_TIMEOUT):
                    return await listeners.add(listener)
            except Exception as error:  # the events of other APIs still arrive
                text = "The events of %s cannot be listened to at the moment, which is tried again: %s: %s"
                about = listener.api, type(error).__name__, error
                self._failures.log(listener.api, logging.ERROR, text, *about, exc_info=error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _remove(self, apis: Iterable[str]) -> None:
        """Remove the listeners of some APIs."""
        removed = [self._added.pop(api) for api in apis]
        for _, adding in removed:
            adding.cancel()
        if removed and self._listeners is not None:
            # At the same time: what is being added may take long to be given up.
            removing = [self._listeners.remove(listener) for listener, _ in removed]
            await self._end_in_time(*removing, *(adding for _, adding in removed))

    async def _end_in_time(self, *endings: Awaitable[None]) -> None:
        """Wait for all endings, `REMOVE_TIMEOUT` seconds at most. Failures are logged: nothing is to be done again."""
        errors: list[BaseException | None] = []
        try:
            async with asyncio.timeout(REMOVE_TIMEOUT):
                errors += await asyncio.gather(*endings, return_exceptions=True)
        except TimeoutError as late:
            errors.append(late)
        for error in errors:
            if isinstance(error, Exception):
                text = "A listener of live events did not end as it should: %s: %s"
                self._failures.log("end", logging.WARNING, text, type(error).__name__, error, exc_info=error)

    def _on_events(self, events: RawEvents) -> None:
        for viewer in self._viewers:
            try:
                viewer.add(events)
            except Exception as error:  # otherwise the listener would end, for all viewers
                text = "Events of %s.%s cannot be shown: this is a fault of Lightbus"
                self._failures.log(type(viewer), logging.ERROR, text, events.api, events.event, exc_info=error)


async def _release_memory() -> None:
    # In a thread, so that requests are answered meanwhile.
    await asyncio.to_thread(release_freed_memory)
