"""Which event backend keeps the events of which API, by the settings; and the backends in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..config import Config
from ..exceptions import EventBackendUnreachable, InvalidConfiguration
from ..membership.context import Identity
from ..ports.events import BackendContext, EventBackend, EventBackendFactory
from ..ports.moving import MovableBackend
from ..service.execution import is_cancelled
from ..service.failures import report
from .entry_points import named_factory

__all__ = ["BACKENDS_GROUP", "EventBackendChoice", "RunningBackends", "movable_backend"]

logger = logging.getLogger("lightbus.events")

T = TypeVar("T")

BACKENDS_GROUP = "lightbus_event_backends"
"""The group of entry points that `apis.<name>.events.backend` names one of: each an `EventBackendFactory`."""

START_TIMEOUT = 5.0
"""Seconds for which a backend that is starting is waited for at the end, after it was cancelled."""

JOURNAL = "journal"
"""The bus's own store, which is no backend."""


def _jetstream(context: BackendContext) -> EventBackend:
    try:
        from ..adapters.nats.events import NatsEventBackend
    except ImportError as error:
        raise InvalidConfiguration(
            "apis.<name>.events.backend is 'jetstream', which needs another package: pip install 'lightbus[jetstream]' "
            f"({error})"
        ) from error
    return NatsEventBackend(context)


def _memory(context: BackendContext) -> EventBackend:
    from ..adapters.memory.events import MemoryEventBackend

    return MemoryEventBackend(context)


BUILT_IN: dict[str, EventBackendFactory] = {"jetstream": _jetstream, "memory": _memory}


def movable_backend(config: Config, name: str, api: str, identity: Identity) -> MovableBackend:
    """
    Return a backend whose events can be moved, with the options from the settings of an API; not started.

    If the API's events are in the journals, there are no such options: the backend uses its defaults and environment
    variables.
    """
    settings = config.api(api).events
    options = settings.options if settings.backend == name else {}
    backend = _factory(name)(BackendContext(bus=identity.bus, instance=identity.instance, options=options))
    if not isinstance(backend, MovableBackend):
        raise InvalidConfiguration(
            f"The events of the backend {name} cannot be moved: only journal and jetstream can be"
        )
    return backend


class EventBackendChoice:
    """
    The event backends from the settings. Thread-safe.

    Raises InvalidConfiguration for an unknown backend.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        names = {settings.events.backend for settings in config.apis.values()} - {JOURNAL}
        self._factories = {name: _factory(name) for name in sorted(names)}

    @property
    def is_used(self) -> bool:
        """Whether a backend keeps the events of any API."""
        return bool(self._factories)

    def has(self, api: str) -> bool:
        """Return whether a backend keeps the events of this API."""
        return self._config.api(api).events.backend != JOURNAL

    def apis(self, names: set[str]) -> set[str]:
        """Return those of these APIs whose events a backend keeps."""
        return {name for name in names if self.has(name)}

    def make(self, api: str, identity: Identity) -> EventBackend:
        """Return a new backend for an API."""
        settings = self._config.api(api).events
        context = BackendContext(bus=identity.bus, instance=identity.instance, options=settings.options)
        return self._factories[settings.backend](context)

    def key(self, api: str) -> tuple[str, str]:
        """Return the key that APIs of one backend share."""
        settings = self._config.api(api).events
        return settings.backend, repr(sorted(settings.options.items()))


class RunningBackends:
    """The backends in use. Only touched from one loop; each backend is started at first use."""

    def __init__(self, choice: EventBackendChoice, identity: Identity) -> None:
        self._choice = choice
        self._identity = identity
        self._starting: dict[tuple[str, str], asyncio.Task[EventBackend]] = {}
        self._stopped = False

    def has(self, api: str) -> bool:
        """Return whether a backend keeps the durable events of an API. Thread-safe."""
        return self._choice.has(api)

    async def get(self, api: str) -> EventBackend:
        """
        Return the started backend of an API. One that did not start is started again.

        Raises EventBackendUnreachable after `stop`, or when it is stopped meanwhile: nobody would stop a backend that
        is started then.
        """
        if self._stopped:
            raise _left(api)
        key = self._choice.key(api)
        starting = self._starting.get(key)
        if starting is None or _has_failed(starting):
            starting = self._starting[key] = asyncio.get_running_loop().create_task(self._start(api))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if self._stopped and not is_cancelled():
                raise _left(api) from None
            raise

    async def _start(self, api: str) -> EventBackend:
        backend = self._choice.make(api, self._identity)
        try:
            await backend.start()
        except BaseException:
            await _stop(backend)  # it may have opened connections, or begun tasks
            raise
        return backend

    async def ask(self, api: str, question: Callable[[EventBackend], Awaitable[T]]) -> T:
        """Return what `question` returns for the backend of an API."""
        return await question(await self.get(api))

    async def stop(self) -> None:
        """Stop all backends, also those that are just starting."""
        self._stopped = True
        tasks, self._starting = list(self._starting.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=START_TIMEOUT)
        for task in tasks:
            if not task.done():
                logger.error("An event backend that is starting cannot be cancelled, and is left as it is")
            elif not _has_failed(task):
                await _stop(task.result())


def _left(api: str) -> EventBackendUnreachable:
    return EventBackendUnreachable(f"This process has left the event backend of {api}: it is stopping.")


async def _stop(backend: EventBackend) -> None:
    try:
        await backend.stop()
    except Exception as error:  # it must not keep the worker from stopping
        report(logger, logging.ERROR, error, "An event backend did not stop")


def _has_failed(starting: asyncio.Task[EventBackend]) -> bool:
    return starting.done() and (starting.cancelled() or starting.exception() is not None)


def _factory(name: str) -> EventBackendFactory:
    if name in BUILT_IN:
        return BUILT_IN[name]
    factory: EventBackendFactory = named_factory(
        "apis.<name>.events.backend", name, group=BACKENDS_GROUP, built_in=(JOURNAL, *BUILT_IN)
    )
    return factory
