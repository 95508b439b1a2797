"""The bus in memory: real workers and clients in one process, without a network."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..adapters.memory.discovery import MemoryDiscovery, MemoryHub
from ..adapters.memory.events import MemoryEventStore
from ..adapters.memory.network import MemoryNetwork
from ..adapters.memory.outbox import MemoryOutbox
from ..adapters.memory.transport import MemoryTransport
from ..blocking import forbid_in_loop
from ..client import BusClient, EngineState
from ..config import Config, DiscoverySettings, JournalSettings, SecuritySettings
from ..config.old_forms import Sections
from ..config.settings import ApiSettings, EventsSettings
from ..creation import create
from ..deadline import Deadline
from ..engine.engine import Engine
from ..exceptions import LightbusTimeout, UnsupportedUse
from ..listener import Listener
from ..membership.context import Identity
from ..message import EventMessage
from ..path import BusPath
from ..scheduling import Timetable
from .observing import Observer

__all__ = ["MemoryBus", "memory_bus"]

CHECKS_GONE = 3
"""Consecutive checks that must find the directory gone."""

LOOK_EVERY = 0.005
REMOVED_WITHIN = 5.0
"""The most seconds for removing the directory."""
WAIT = 0.2
"""Seconds to wait for an API that no peer advertises: discovery in memory is instant, a worker's start is not."""


class MemoryBus:
    """
    A bus in memory for a test: all buses created on it, or attached to it, discover each other at once.

        with memory_bus() as hub:
            auth = hub.create(service_name="auth")
            auth.client.register_api(AuthApi())
            hub.start(auth)
            assert hub.create().auth.check_password(username="sally", password="secret")

    Everything else is real: workers, handlers, frames, validation. It opens no socket and no file, and is isolated from
    all other buses. Events are stored in memory until the end, when everything on it is closed. On an event loop that
    runs workers, use `async with`.

    Args:
        observe: record each fired event, for `wait_for_event`.
        journal: store events as a real bus does: in journals on disk, in a temporary directory that is made with the
            first of them, and removed at the end.

    Attributes:
        hub: connects the discoveries of this bus; for making your own `MemoryDiscovery`.
        network: connects the sockets of this bus; for making your own `MemoryTransport`.

    """

    def __init__(self, *, observe: bool = False, journal: bool = False) -> None:
        self.hub = MemoryHub()
        self.network = MemoryNetwork()
        self._name = f"memory-{os.urandom(4).hex()}"
        self._directory = Path(tempfile.gettempdir()) / f"lightbus-{self._name}"  # created with the first journal
        self._outbox = None if journal else MemoryOutbox()
        self._events = MemoryEventStore.of_bus(self._name)  # referenced here, so that events outlive their publishers
        self._buses: list[BusClient] = []
        self._former: dict[BusClient, _FormerState] = {}
        self._observer = Observer(lambda: tuple(self._buses))
        self._observes = observe

    def create(self, config: Mapping[str, Any] | Config | None = None, **options: Any) -> BusPath:
        """
        Return a new bus, made by `lightbus.create()` with these options. By default each is a service of its own.

        Give `service_name` for several processes of one service, or for a fixed group name of its listeners.
        """
        options.setdefault("service_name", f"service-{len(self._buses) + 1}")
        return self.attach(create(config, **options))

    def attach(self, bus: BusPath) -> BusPath:
        """
        Attach an existing bus, as that of your bus module, to this one until the end, and return it.

        At the end it is restored, without the APIs and listeners that were added meanwhile. Its settings of network,
        security and discovery are ignored. Raises UnsupportedUse if it runs a worker, or is attached already.
        """
        client = bus.client
        if client.is_worker or client in self._former:
            raise UnsupportedUse(
                f"{client.config.service_name} is on a bus: stop its worker first, and attach it once."
            )
        self._former[client] = _FormerState(
            engine=client.exchange_engine(EngineState(make=self._make_engine)),
            apis=frozenset(client.api_registry.names()),
            listeners=tuple(client.listeners),
            timetables=tuple(client.timetables),
        )
        self._buses.append(client)
        if self._observes:
            self._observer.watch(client)
        return bus

    def start(self, *buses: BusPath, timeout: float = 5.0) -> None:
        """
        Run a worker of each of these in a thread; return when all serve, and all listeners on this bus are subscribed.

        Raises LightbusTimeout if a listener is not within `timeout` seconds, and CannotBlockHere inside a loop.
        """
        for bus in buses:
            bus.client.start_in_background()
        deadline = Deadline.after(timeout)
        while waiting := self._not_listening():
            _check(waiting, deadline, timeout)
            time.sleep(LOOK_EVERY)

    async def start_async(self, *buses: BusPath, timeout: float = 5.0) -> None:
        """Run a worker of each of these on the running loop; return when all of them serve and are subscribed."""
        for bus in buses:
            await bus.client.start_worker()
        deadline = Deadline.after(timeout)
        while waiting := self._not_listening():
            _check(waiting, deadline, timeout)
            await asyncio.sleep(LOOK_EVERY)

    def wait_for_event(self, event: BusPath | str, *, number: int = 1, timeout: float = 5.0) -> EventMessage:
        """
        Return an event once it was fired on this bus, the first of its name or the one with a `number`.

        Events fired earlier count, so there is no race with the code that fires. Raises LightbusTimeout, and
        UnsupportedUse if the bus was not made with `observe=True`.
        """
        self._check_observes()
        return self._observer.event(event, number, timeout)

    async def wait_for_event_async(
        self, event: BusPath | str, *, number: int = 1, timeout: float = 5.0
    ) -> EventMessage:
        """Return, on an event loop, an event once it was fired on this bus."""
        self._check_observes()
        return await self._observer.event_async(event, number, timeout)

    def wait_until_handled(self, timeout: float = 5.0) -> None:
        """
        Return when every listener on this bus has handled all fired events, including those that handlers fire, and
        retries.

        A dead letter counts as handled. Raises LightbusTimeout, which names the listeners with events left.
        """
        forbid_in_loop("wait_until_handled()", "wait_until_handled_async()")
        self._observer.all_handled(timeout)

    async def wait_until_handled_async(self, timeout: float = 5.0) -> None:
        """Return, on an event loop, when every listener on this bus has handled all fired events."""
        await self._observer.all_handled_async(timeout)

    def close(self) -> None:
        """Close everything on this bus. Raises CannotBlockHere inside a running event loop: await `close_async`."""
        while self._buses:
            self._buses[-1].close()
            self._detach(self._buses.pop())
        self._remove_directory()

    async def close_async(self) -> None:
        """Close everything on this bus; workers of the running loop are stopped."""
        while self._buses:
            await self._buses[-1].close_async()
            self._detach(self._buses.pop())
        self._remove_directory()

    def _remove_directory(self) -> None:
        """Remove the directory, even while a thread that is ending closes and removes one of its files."""
        deadline = Deadline.after(REMOVED_WITHIN)
        looks_gone = 0
        while looks_gone < CHECKS_GONE and not deadline.passed():  # such a thread may create it again
            looks_gone += 1
            if self._directory.exists():
                shutil.rmtree(self._directory, ignore_errors=True)
                looks_gone = 0
            time.sleep(LOOK_EVERY)

    def __enter__(self) -> MemoryBus:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> MemoryBus:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close_async()

    def _check_observes(self) -> None:
        if not self._observes:
            raise UnsupportedUse("This bus does not record fired events: make it by memory_bus(observe=True).")

    def _make_engine(self, config: Config, identity: Identity) -> Engine:
        ours = config.model_copy(
            update={
                "security": SecuritySettings(mode="host"),
                "discovery": DiscoverySettings(wait=WAIT),
                "journal": JournalSettings(data_dir=self._directory),
            }
        )
        if self._outbox is not None:
            ours = ours.model_copy(update={"apis": _in_memory(ours.apis)})
        return Engine(
            ours,
            replace(identity, bus=self._name),
            discovery=lambda bus: MemoryDiscovery(bus, self.hub),
            transport=lambda bus, network: MemoryTransport(self.network, max_message_size=network.max_message_size),
            outbox=self._outbox,
        )

    def _not_listening(self) -> list[str]:
        """Return a line for each worker whose listeners are not subscribed to another worker yet."""
        workers = [client for client in self._buses if client.is_worker]
        return [
            f"{listener.service_name} to {publisher.service_name}"
            for listener in workers
            for publisher in workers
            if not _delivers(listener, publisher)
        ]

    def _detach(self, client: BusClient) -> None:
        before = self._former.pop(client)
        if self._observes:
            self._observer.leave(client)
        client.exchange_engine(before.engine)
        client.listeners[:] = before.listeners
        client.timetables[:] = before.timetables
        for name in set(client.api_registry.names()) - before.apis:
            client.api_registry.remove(name)


memory_bus = MemoryBus


@dataclass(frozen=True, slots=True, kw_only=True)
class _FormerState:
    """The state of a bus before it was attached."""

    engine: EngineState
    apis: frozenset[str]
    listeners: tuple[Listener, ...]
    timetables: tuple[Timetable, ...]


def _in_memory(apis: Mapping[str, ApiSettings]) -> Sections[ApiSettings]:
    """Return the settings of APIs with the event backend `memory` instead of `journal`."""
    in_memory = {"events": EventsSettings(backend="memory")}
    return Sections(
        (name, each.model_copy(update=in_memory) if each.events.backend == "journal" else each)
        for name, each in apis.items()
    )


def _delivers(listener: BusClient, publisher: BusClient) -> bool:
    """Return whether one worker's listeners are subscribed to the other one, as far as it publishes their APIs."""
    worker = listener.worker
    if worker is None or worker.parts is None:
        return True
    consumer = worker.parts.consumer
    wanted = {runner.listener.api for runner in consumer.runners}
    if wanted.isdisjoint(publisher.api_registry.names()):
        return True
    return consumer.is_live_at(publisher.engine.identity.instance)


def _check(waiting: list[str], deadline: Deadline, timeout: float) -> None:
    if deadline.passed():
        raise LightbusTimeout(f"After {timeout} s these do not listen: {', '.join(waiting)}. Does a handler block one?")
