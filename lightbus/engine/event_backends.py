"""Which event backend keeps the events of which API, by the settings, and those that are in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..config import Config
from ..exceptions import InvalidConfiguration
from ..membership.context import Identity
from ..ports.events import BackendContext, EventBackend, EventBackendFactory
from ..ports.moving import MovableBackend
from ..service.failures import report

__all__ = ["BACKENDS_GROUP", "EventBackendChoice", "RunningBackends", "movable_backend"]

logger = logging.getLogger("lightbus.events")

T = TypeVar("T")

BACKENDS_GROUP = "lightbus_event_backends"
"""The entry points among which `apis.<name>.events.backend` names one: each an `EventBackendFactory`."""

JOURNAL = "journal"
"""The bus's own way."""


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
    Return a backend whose events can be moved, with what the settings of an API say of it; not started.

    Where the API is with the journals, the backend's own defaults and variables of the environment say where it is.
    """
    settings = config.api(api).events
    options = settings.options if settings.backend == name else {}
    backend = _factory(name)(BackendContext(bus=identity.bus, instance=identity.instance, options=options))
    if not isinstance(backend, MovableBackend):
        raise InvalidConfiguration(f"The events of the backend {name} cannot be moved: there is journal and jetstream")
    return backend


class EventBackendChoice:
    """
    What the settings say. From any thread.

    Raises InvalidConfiguration for a backend that there is not.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        names = {settings.events.backend for settings in config.apis.values()} - {JOURNAL}
        self._factories = {name: _factory(name) for name in sorted(names)}

    @property
    def is_used(self) -> bool:
        """Whether the events of any API are kept elsewhere than in the journals."""
        return bool(self._factories)

    def has(self, api: str) -> bool:
        """Return whether those of this API are."""
        return self._config.api(api).events.backend != JOURNAL

    def apis(self, names: set[str]) -> set[str]:
        """Return those of these APIs whose events are."""
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
    """The backends in use on one loop, which is the only one that touches them; each is started at first use."""

    def __init__(self, choice: EventBackendChoice, identity: Identity) -> None:
        self._choice = choice
        self._identity = identity
        self._starting: dict[tuple[str, str], asyncio.Task[EventBackend]] = {}

    def has(self, api: str) -> bool:
        """Return whether the durable events of an API are kept by a backend. From any thread."""
        return self._choice.has(api)

    async def get(self, api: str) -> EventBackend:
        """Return the one that keeps them."""
        key = self._choice.key(api)
        if key not in self._starting:
            self._starting[key] = asyncio.get_running_loop().create_task(self._start(api))
        return await asyncio.shield(self._starting[key])

    async def _start(self, api: str) -> EventBackend:
        backend = self._choice.make(api, self._identity)
        await backend.start()
        return backend

    async def ask(self, api: str, question: Callable[[EventBackend], Awaitable[T]]) -> T:
        """Have a backend answer."""
        return await question(await self.get(api))

    async def stop(self) -> None:
        """Stop all."""
        tasks, self._starting = list(self._starting.values()), {}
        for task in tasks:
            if not task.done():
                task.cancel()
            elif task.exception() is None:
                try:
                    await task.result().stop()
                except Exception as error:  # a worker that leaves is not held up by what it leaves
                    report(logger, logging.ERROR, error, "An event backend did not stop")


def _factory(name: str) -> EventBackendFactory:
    if name in BUILT_IN:
        return BUILT_IN[name]
    from importlib.metadata import entry_points  # 2 MB, for the few who have a backend of their own

    found = {point.name: point for point in entry_points(group=BACKENDS_GROUP)}
    if name not in found:
        known = [JOURNAL, *sorted({*BUILT_IN, *found})]
        raise InvalidConfiguration(
            f"apis.<name>.events.backend is '{name}', and there is: {', '.join(known)}. Install the package that "
            f"brings it (an entry point in the group {BACKENDS_GROUP}), or name another"
        )
    try:
        factory: EventBackendFactory = found[name].load()
    except Exception as error:
        raise InvalidConfiguration(
            f"apis.<name>.events.backend '{name}' ({found[name].value}) cannot be imported: {error}"
        ) from error
    return factory
