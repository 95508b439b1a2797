"""What every part of the client stands on: the settings, what was declared, the hooks, and the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from ..adapters.sqlite.outbox import Outbox
from ..blocking import BlockingChannel, is_exiting, wait_at_exit
from ..config import Config, Feature, expand
from ..engine.engine import Engine
from ..engine.worker import Worker
from ..exceptions import BusAlreadyClosed
from ..listener import Listener
from ..membership.context import Identity
from ..scheduling import Timetable
from ..service.api import Api, ApiRegistry, left_out
from ..service.execution import CallersContext
from ..service.hooks import HOOKS, HookDecorator, HookRegistry, decorator
from ..service.reachable import check_reachable
from ..service.schema import Schema
from ..service.sendable import check_sendable
from .process_hooks import CLIENTS

__all__ = ["CHANGE_TIMEOUT", "ClientCore", "EngineState"]

logger = logging.getLogger("lightbus.client")

CHANGE_TIMEOUT = 2.0
"""Seconds for which a thread waits for a running worker to take in what is new."""

EngineState: TypeAlias = tuple[Engine | None, BlockingChannel | None, bool]
"""The engine, its door for plain threads, and whether the bus was closed."""


class ClientCore:
    """Everything of a client but what it does: the parts that do it inherit from here. `BusClient` is all of them."""

    def __init__(self, config: Config, *, plugins: Sequence[Any] | None = None) -> None:
        self.config = config
        self.api_registry = ApiRegistry(self._api_removed)
        self.schema = Schema(human_readable=config.bus.options.human_readable)
        self._peers_schema = Schema()
        self._asked: dict[str, tuple[str, float]] = {}
        """Per API whose schema a peer told: the schema's digest, and until when it is remembered."""
        self.hooks = HookRegistry()
        self.listeners: list[Listener] = []
        self.timetables: list[Timetable] = []
        self.features: tuple[Feature, ...] = tuple(config.features)
        self.exit_code = 0
        self.dropped_events = 0
        """Best-effort events that nobody was there to publish."""
        self.make_engine: Callable[[Config, Identity], Engine] = Engine
        """Makes the engine, at first use. `lightbus.testing` has a way of its own."""
        self._seen: set[tuple[str, str]] = set()
        """Events of which it is on disk that there are such."""
        self._plugins = list(plugins or ())
        self._plugins_loaded = False
        self._publishing: threading.Timer | None = None
        """Has this process publish what it keeps, unless it ends before."""
        self._going_on: threading.Timer | None = None
        """Has it publish what an earlier process left, unless it ends before."""
        self._kept: Counter[str] = Counter()
        """Per registered API the events that this process has put into the outbox since it last began to publish."""
        self._outbox: Outbox | None = None
        self._background_tasks: list[Awaitable[Any]] = []
        self._engine: Engine | None = None
        self._blocking: BlockingChannel | None = None
        self._worker: Worker | None = None
        self._background: threading.Thread | None = None
        self._lock = threading.RLock()
        self._closed = False
        for name in HOOKS:
            setattr(self, name, decorator(self.hooks, name))
        CLIENTS.add(self)

    on_start: HookDecorator
    on_stop: HookDecorator
    before_worker_start: HookDecorator
    after_worker_stopped: HookDecorator
    before_rpc_call: HookDecorator
    after_rpc_call: HookDecorator
    before_rpc_execution: HookDecorator
    after_rpc_execution: HookDecorator
    before_event_sent: HookDecorator
    after_event_sent: HookDecorator
    before_event_execution: HookDecorator
    after_event_execution: HookDecorator
    on_events_lost: HookDecorator

    # The engine

    @property
    def engine(self) -> Engine:
        """The engine of this process, made at first use. Raises BusAlreadyClosed."""
        engine = self._engine
        if engine is not None:
            return engine
        if self._closed:
            wait_at_exit()
            raise BusAlreadyClosed(
                "This bus was closed, since the program ends: register an exit handler that uses it after "
                "lightbus.create(), so that it runs before that."
                if is_exiting()
                else "This bus was closed. Make a new one with lightbus.create()."
            )
        with self._lock:
            if self._engine is None:
                identity = Identity(
                    bus=self.config.bus_name,
                    service=expand(self.config.service_name),
                    process=expand(self.config.process_name),
                )
                self.load_plugins()
                engine = self.make_engine(self.config, identity)
                self._blocking = BlockingChannel(engine)
                self._engine = engine
                self._go_on(engine)
            return self._engine

    def _go_on(self, engine: Engine) -> None:
        """Take up what an earlier process of this service left. Called once, when the engine is made."""

    def exchange_engine(self, state: EngineState = (None, None, False)) -> EngineState:
        """Put another engine in place, or none as at the beginning, and return what was there (`lightbus.testing`)."""
        with self._lock:
            former = self._engine, self._blocking, self._closed
            self._engine, self._blocking, self._closed = state
            return former

    @property
    def service_name(self) -> str:
        """The name of the service this process belongs to."""
        return self.engine.identity.service

    @property
    def process_name(self) -> str:
        """The name of this process."""
        return self.engine.identity.process

    def _door(self) -> BlockingChannel:
        if self._blocking is None:
            _ = self.engine
        assert self._blocking is not None
        return self._blocking

    @property
    def is_worker(self) -> bool:
        """Whether this process runs a worker of this bus, or starts or stops one."""
        return self._worker is not None

    # Registering

    def register_api(self, api: Api) -> None:
        """
        Offer an API: its procedures can be called, and its events fired.

        A running worker advertises it at once. `api_registry.remove(name)` takes it back.

        Raises:
            InvalidApiRegistryEntry: `api` is no instance of an Api class, or the name is taken.
            InvalidName: `bus.<api>.<name>` could not lead to one of its names.
            InvalidDeclaration: an annotation names what cannot be sent.

        """
        if isinstance(api, Api):  # what is none is refused by the registry
            check_reachable(api)
            check_sendable(api)
        self.api_registry.add(api)
        self.schema.add_api(api)
        for name, why in left_out(api).items():
            logger.warning(
                "%s.%s is no procedure: %s. Write a `def` that calls it, or begin its name with an underscore",
                api.meta.name,
                name,
                why,
            )
        self._change_worker(lambda worker: worker.api_registered())

    def _api_removed(self, name: str) -> None:
        self.schema.remove_api(name)
        self._change_worker(lambda worker: worker.api_registered())

    def _change_worker(self, make: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
        """Have a running worker take in what is new; in a plain thread, return when it has."""
        worker = self._worker
        if worker is None or worker.loop.is_closed():
            return
        change = asyncio.run_coroutine_threadsafe(make(worker), worker.loop)
        if asyncio._get_running_loop() is None:
            with contextlib.suppress(TimeoutError):  # it goes on by itself
                change.result(CHANGE_TIMEOUT)

    def take_background_tasks(self) -> list[Awaitable[Any]]:
        """Return the background tasks that were added, and forget them: a coroutine runs once."""
        taken, self._background_tasks = self._background_tasks, []
        return taken

    # Hooks and plugins

    async def run_hook(self, name: str, **details: Any) -> None:
        """Run the functions and plugins of a hook for a caller, in its context; `def` functions in a thread."""
        if self.hooks.has(name):
            await self.hooks.run(name, CallersContext(self.engine.executor).call, client=self, **details)

    def run_hook_blocking(self, name: str, **details: Any) -> None:
        """Do the same in a plain thread."""
        if self.hooks.has(name):
            self.hooks.run_blocking(name, CallersContext.call_blocking, client=self, **details)

    def load_plugins(self) -> None:
        """Load the plugins that the settings enable, once."""
        if self._plugins_loaded:
            return
        from ..plugins import load_plugins, register_plugin

        loaded = [*self._plugins, *load_plugins(self.config)]
        self._plugins_loaded = True
        for plugin in loaded:
            register_plugin(self.hooks, plugin)
