"""The listeners of this process whose events an event backend keeps: each subscribes there, and at its publishers.

Publishers still send events of best effort, and those that their journals keep from before the backend was set.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from ...listener import Listener
from ...membership.context import Identity
from ...ports.events import EventBackend, SubscriptionRequest
from ...service.failures import report
from ..listening.consumer import Consumer
from ..listening.listener_runner import ListenerRunner
from .backend_source import BackendSource

__all__ = ["BackendListeners", "Backends"]

logger = logging.getLogger("lightbus.listeners")


class Backends(Protocol):
    """The event backends of this process, on the node's loop."""

    def has(self, api: str) -> bool:
        """Return whether a backend keeps the durable events of an API. Thread-safe."""

    async def get(self, api: str) -> EventBackend:
        """Return the backend of an API, started at first use."""


class BackendListeners:
    """
    The subscriptions of listeners at event backends. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        backends: the event backends.
        consumer: has the running listeners.

    """

    def __init__(self, identity: Identity, backends: Backends, consumer: Consumer) -> None:
        self._identity = identity
        self._backends = backends
        self._consumer = consumer
        self._sources: dict[Listener, BackendSource] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def add(self, listener: Listener) -> None:
        """Deliver the events of a backend to a running listener, if a backend keeps those of its API."""
        runner = self._consumer.runner_of(listener)
        if runner is None or not self._backends.has(listener.api):
            return
        request = SubscriptionRequest(
            api=listener.api,
            events=listener.events,
            group=listener.group_of(self._identity.service),
            member=self._identity.instance,
            since=listener.since,
        )
        backend = await self._backends.get(listener.api)
        if runner.queue.is_closed:
            return  # it was stopped meanwhile
        source = self._sources[listener] = BackendSource(backend, runner.queue, request, self._consumer.losses)
        await source.start()

    async def remove(self, listener: Listener) -> None:
        """Unsubscribe a listener that has stopped."""
        if (source := self._sources.pop(listener, None)) is not None:
            await source.close()

    def stopped(self, listener: Listener) -> None:
        """Make a failed listener leave its group, after its other events in progress are finished."""
        source, runner = self._sources.pop(listener, None), self._consumer.runner_of(listener)
        if source is not None and runner is not None:
            task = asyncio.get_running_loop().create_task(_remove_after_leaving(source, runner))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def stop(self) -> None:
        """Acknowledge handled events, and leave all groups, after the listeners have stopped."""
        sources, self._sources = self._sources, {}
        leaving = [*self._leaving, *(source.close() for source in sources.values())]
        for outcome in await asyncio.gather(*leaving, return_exceptions=True):
            if isinstance(outcome, Exception):  # it must not keep the worker from stopping
                report(logger, logging.ERROR, outcome, "A listener could not leave its event backend")


async def _remove_after_leaving(source: BackendSource, runner: ListenerRunner) -> None:
    await runner.stop(None)
    await source.close()
