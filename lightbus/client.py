"""`bus.client`: registering, calling, firing, listening, hooks, schedules, and the life of the bus in this process."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias, TypeVar

from .blocking import BlockingDoor, forbid_in_loop, is_exiting, note_exit, wait_at_exit
from .config import Config, Feature, expand
from .core.registry import Snapshot
from .deadline import Deadline
from .exceptions import (
    BusAlreadyClosed,
    DuplicateListenerName,
    EventNotFound,
    InvalidEventListener,
    InvalidParameters,
    InvalidSchedule,
    LightbusException,
    LightbusServerMustStartInMainThread,
    LightbusTimeout,
    NothingToListenFor,
    SchemaNotFound,
    UnsupportedUse,
    did_you_mean,
)
from .io.memory import keep_freed_memory
from .message import EventMessage, ResultMessage, RpcMessage
from .runtime.calling import OutgoingCall, OutgoingEvent
from .runtime.context import Identity
from .runtime.engine import Engine
from .runtime.listening import Listener, OnError
from .runtime.publishing import key_of, record_of
from .scheduling import ScheduleJob, Timetable, every, scheduled
from .service.api import Api, ApiRegistry, Event
from .service.hooks import HookDecorator, HookRegistry, decorator
from .service.schema import Schema
from .typing import BusOptions, JsonSchema, Kwargs
from .wire.envelope import Accepted
from .worker import Worker

__all__ = ["BusClient", "EngineState"]

logger = logging.getLogger("lightbus.client")

F = TypeVar("F", bound=Callable[..., Any])

CROWD = 512
"""Events queued for publishing beyond which a firing loop lets the others have a turn."""

BACKGROUND_START_TIMEOUT = 15.0
CHANGE_TIMEOUT = 2.0
CALL_OPTIONS = ("timeout", "idempotent", "trace", "peer")
FIRE_OPTIONS = ("timeout",)
_NO_KWARGS: Kwargs = {}

EngineState: TypeAlias = tuple[Engine | None, BlockingDoor | None, bool]
"""The engine, its door for plain threads, and whether the bus was closed."""


class BusClient:
    """
    One bus, as this process uses it. Making one opens nothing: no thread, no socket, no file.

    Any thread and any event loop may use it; after a fork the child has a fresh one of the same settings.

    Args:
        config: the settings.
        plugins: plugins to add to those that the settings enable.

    """

    def __init__(self, config: Config, *, plugins: Sequence[Any] | None = None) -> None:
        self.config = config
        self.api_registry = ApiRegistry()
        self.schema = Schema(human_readable=config.bus.options.human_readable)
        self._peers_schema = Schema()
        self._asked: dict[str, tuple[str, float]] = {}
        """Per API whose schema a peer told: the schema's digest, and until when it is remembered."""
        self.hooks = HookRegistry()
        self.listeners: list[Listener] = []
        self.timetables: list[Timetable] = []
        self.features: tuple[Feature, ...] = tuple(config.features)
        self.exit_code = 0
        self.make_engine: Callable[[Config, Identity], Engine] = Engine
        """Makes the engine, at first use. `lightbus.testing` has a way of its own."""
        self._plugins = list(plugins or ())
        self._plugins_loaded = False
        self._background_tasks: list[Coroutine[Any, Any, Any]] = []
        self._engine: Engine | None = None
        self._blocking: BlockingDoor | None = None
        self._worker: Worker | None = None
        self._background: threading.Thread | None = None
        self._lock = threading.RLock()
        self._closed = False
        for name in (
            "on_start",
            "on_stop",
            "before_worker_start",
            "after_worker_stopped",
            "before_rpc_call",
            "after_rpc_call",
            "before_rpc_execution",
            "after_rpc_execution",
            "before_event_sent",
            "after_event_sent",
            "before_event_execution",
            "after_event_execution",
        ):
            setattr(self, name, decorator(self.hooks, name))
        _CLIENTS.add(self)

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

    # The engine

    @property
    def engine(self) -> Engine:
        """The engine of this process, made at first use. Raises BusAlreadyClosed."""
        engine = self._engine
        if engine is not None:
            return engine
        if self._closed:
            wait_at_exit()
            raise BusAlreadyClosed("This bus was closed. Make a new one with lightbus.create().")
        with self._lock:
            if self._engine is None:
                identity = Identity(
                    bus=self.config.bus_name,
                    service=expand(self.config.service_name),
                    process=expand(self.config.process_name),
                )
                self.load_plugins()
                engine = self.make_engine(self.config, identity)
                self._blocking = BlockingDoor(engine)
                self._engine = engine
            return self._engine

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

    def _door(self) -> BlockingDoor:
        if self._blocking is None:
            _ = self.engine
        assert self._blocking is not None
        return self._blocking

    # Registering

    def register_api(self, api: Api) -> None:
        """
        Offer an API: its procedures can be called, and its events fired.

        A running worker advertises it at once. Raises InvalidApiRegistryEntry where `api` is no instance of an Api
        class, or the name is taken.
        """
        self.api_registry.add(api)
        self.schema.add_api(api)
        self._change_worker(lambda worker: worker.api_registered())

    # Calling

    async def call_rpc_remote(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Call a procedure and return its result. Raises what `BusPath.__call__` raises."""
        kwargs = _NO_KWARGS if kwargs is None else kwargs
        engine = self.engine
        outgoing = self._outgoing_call(engine, api_name, name, kwargs, options)
        hooks = self.hooks
        if not hooks.has("before_rpc_call") and not hooks.has("after_rpc_call"):
            return self._result(outgoing, await engine.caller().request(outgoing))
        message = RpcMessage(api_name=api_name, procedure_name=name, kwargs=kwargs, id=engine.event_ids.next())
        await self.run_hook("before_rpc_call", rpc_message=message)
        try:
            value = self._result(outgoing, await engine.caller().request(outgoing))
        except LightbusException as error:
            await self.run_hook("after_rpc_call", rpc_message=message, result_message=_error_message(message, error))
            raise
        await self.run_hook("after_rpc_call", rpc_message=message, result_message=_result_message(message, value))
        return value

    def call_rpc_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Do the same from a plain thread. Raises CannotBlockHere inside a running event loop."""
        forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async()")
        kwargs = _NO_KWARGS if kwargs is None else kwargs
        engine = self.engine
        outgoing = self._outgoing_call(engine, api_name, name, kwargs, options)
        hooks = self.hooks
        if not hooks.has("before_rpc_call") and not hooks.has("after_rpc_call"):
            return self._result(outgoing, self._door().request(outgoing))
        message = RpcMessage(api_name=api_name, procedure_name=name, kwargs=kwargs, id=engine.event_ids.next())
        hooks.run_blocking("before_rpc_call", client=self, rpc_message=message)
        try:
            value = self._result(outgoing, self._door().request(outgoing))
        except LightbusException as error:
            failure = _error_message(message, error)
            hooks.run_blocking("after_rpc_call", client=self, rpc_message=message, result_message=failure)
            raise
        hooks.run_blocking(
            "after_rpc_call", client=self, rpc_message=message, result_message=_result_message(message, value)
        )
        return value

    def call_or_fire(self, api_name: str, name: str, kwargs: Kwargs, options: BusOptions | None) -> Any:
        """Call what is a procedure, fire what is an event. Raises what either raises."""
        if self._is_event(api_name, name):
            return self.fire_event_blocking(api_name, name, kwargs, options)
        return self.call_rpc_blocking(api_name, name, kwargs, options)

    def _is_event(self, api_name: str, name: str) -> bool:
        if api_name in self.api_registry.names():
            return name in self.api_registry.get(api_name).events
        engine = self.engine
        if api_name not in engine.snapshot.by_api:
            forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async() or .fire_async()")
            self._door().resolve(api_name, Deadline.after(self.config.api(api_name).rpc_timeout))
        return (api_name, name) in engine.snapshot.events

    def _outgoing_call(
        self, engine: Engine, api_name: str, name: str, kwargs: Kwargs, options: BusOptions | None
    ) -> OutgoingCall:
        settings = self.config.api(api_name)
        if settings.validation.outgoing:
            self._validate_call(api_name, name, kwargs, strict=settings.strict_validation)
        if options is None:
            return OutgoingCall(engine, api_name, name, Deadline.after(settings.rpc_timeout), kwargs)
        _check_options(options, CALL_OPTIONS, f"{api_name}.{name}")
        return OutgoingCall(
            engine,
            api_name,
            name,
            Deadline.after(_timeout(options, settings.rpc_timeout, f"{api_name}.{name}")),
            kwargs,
            idempotent=bool(options.get("idempotent", False)),
            trace=options.get("trace"),
            only=options.get("peer"),
        )

    def _validate_call(self, api_name: str, name: str, kwargs: Kwargs, *, strict: bool) -> None:
        api = self.api_registry.find(api_name)
        if api is not None:
            api.get_procedure(name).signature.validate(kwargs)
        elif self.schema.knows(api_name):
            self.schema.validate_parameters(api_name, name, kwargs)
        elif strict:
            raise SchemaNotFound(
                f"strict_validation is on for '{api_name}', and no schema of it is registered or loaded here. "
                "Load one (bus.schema.load_local, lightbus run --schema), or turn strict_validation off."
            )

    def _result(self, outgoing: OutgoingCall, value: Any) -> Any:
        api = self.api_registry.find(outgoing.api)
        if api is None:
            return value
        procedure = api.procedures.get(outgoing.name)
        settings = self.config.api(outgoing.api)
        if procedure is None:
            return value
        if settings.validation.incoming:
            procedure.signature.validate_response(value)
        return procedure.signature.cast_result(value) if settings.cast_values else value

    # Firing

    async def fire_event(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Fire an event and return it when a publisher has taken it. Raises what `BusPath.fire` raises."""
        engine = self.engine
        event = self._event(api_name, name)
        if event is None and api_name not in engine.snapshot.by_api:
            await engine.resolve(api_name, self._fire_deadline(api_name, options))
        message = self._new_event(engine, event, api_name, name, kwargs)
        if self.hooks.has("before_event_sent"):
            await self.run_hook("before_event_sent", event_message=message)
        publisher = engine.publisher
        if publisher is not None and event is not None:
            publisher.publish(message, event)
            if publisher.waiting > CROWD:
                await asyncio.sleep(0)
        else:
            outgoing = self._hand_off(engine, event, message, options)
            _taken(message, await engine.caller().request(outgoing))
        if self.hooks.has("after_event_sent"):
            await self.run_hook("after_event_sent", event_message=message)
        return message

    def fire_event_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Do the same from a plain thread. Raises CannotBlockHere inside a running event loop."""
        forbid_in_loop(f"bus.{api_name}.{name}.fire()", f"bus.{api_name}.{name}.fire_async()")
        engine = self.engine
        event = self._event(api_name, name)
        if event is None and api_name not in engine.snapshot.by_api:
            self._door().resolve(api_name, self._fire_deadline(api_name, options))
        message = self._new_event(engine, event, api_name, name, kwargs)
        if self.hooks.has("before_event_sent"):
            self.hooks.run_blocking("before_event_sent", client=self, event_message=message)
        publisher = engine.publisher
        if publisher is not None and event is not None:
            publisher.publish(message, event)
        else:
            _taken(message, self._door().request(self._hand_off(engine, event, message, options)))
        if self.hooks.has("after_event_sent"):
            self.hooks.run_blocking("after_event_sent", client=self, event_message=message)
        return message

    def _fire_deadline(self, api_name: str, options: BusOptions | None) -> Deadline:
        seconds = self.config.api(api_name).event_fire_timeout
        if options is not None:
            _check_options(options, FIRE_OPTIONS, f"an event of {api_name}")
            seconds = _timeout(options, seconds, f"an event of {api_name}")
        return Deadline.after(seconds)

    def _event(self, api_name: str, name: str) -> Event | None:
        api = self.api_registry.find(api_name)
        return None if api is None else api.get_event(name)

    def _new_event(
        self, engine: Engine, event: Event | None, api_name: str, name: str, kwargs: Kwargs | None
    ) -> EventMessage:
        kwargs = {} if kwargs is None else kwargs
        validate = self.config.api(api_name).validation.outgoing
        version = 1
        if event is not None:
            kwargs = event.signature.fill_defaults(kwargs)
            if validate:
                event.signature.validate(kwargs)
            version = event.version or 1
        else:
            self._check_remote_event(engine.snapshot, api_name, name)
            if validate and self.schema.knows(api_name):
                self.schema.validate_parameters(api_name, name, kwargs)
        return EventMessage(
            api_name=api_name,
            event_name=name,
            kwargs=kwargs,
            version=version,
            id=engine.event_ids.next(),
            published_at=time.time(),
        )

    def _check_remote_event(self, snapshot: Snapshot, api_name: str, name: str) -> None:
        if api_name in snapshot.by_api and (api_name, name) not in snapshot.events:
            known = [event for api, event in snapshot.events if api == api_name]
            raise EventNotFound(
                f"The API '{api_name}' has no event '{name}'.{did_you_mean(name, known)} "
                f"Its events are: {', '.join(sorted(known)) or 'none'}."
            )

    def _hand_off(
        self, engine: Engine, event: Event | None, message: EventMessage, options: BusOptions | None
    ) -> OutgoingEvent:
        record = record_of(message)
        deadline = self._fire_deadline(message.api_name, options)
        key = key_of(event, message.kwargs)
        return OutgoingEvent(engine, message.api_name, message.event_name, deadline, record, key)

    # Listening

    def listen_for_event(
        self,
        api_name: str,
        name: str,
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        options: BusOptions | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """Call `listener` for each of these events. See `BusPath.listen`."""
        self.listen_for_events(
            [(api_name, name)], listener, listener_name=listener_name, options=options, on_error=on_error
        )

    def listen_for_events(
        self,
        events: Iterable[tuple[str, str]],
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        options: BusOptions | None = None,
        on_error: OnError | None = None,
    ) -> None:
        """
        Call `listener` for each of several events, given as `(api name, event name)`; `"*"` is every event of an API.

        Raises InvalidEventListener, DuplicateListenerName, NothingToListenFor, EventNotFound.
        """
        if not callable(listener):
            raise InvalidEventListener(f"{listener!r} cannot listen: it is not callable. Pass the function itself.")
        by_api: dict[str, list[str]] = {}
        for api_name, name in events:
            self._check_event_name(api_name, name)
            by_api.setdefault(api_name, []).append(name)
        if not by_api:
            raise NothingToListenFor(f"{listener} was given no event to listen for. Pass (api name, event name) pairs.")
        name = listener_name or f"{listener.__module__}.{getattr(listener, '__qualname__', type(listener).__name__)}"
        self._check_group(name)
        if options and options.get("since") is not None:
            logger.warning("There is no journal yet: since=%r of the listener %s is ignored", options["since"], name)
        for api_name, names in by_api.items():
            self._add_listener(
                Listener(
                    api=api_name,
                    events=tuple(names),
                    name=name,
                    function=listener,
                    on_error=on_error or OnError.SHUTDOWN,
                )
            )

    def _add_listener(self, listener: Listener) -> None:
        if any(other.api == listener.api and other.name == listener.name for other in self.listeners):
            raise DuplicateListenerName(
                f"The API '{listener.api}' has a listener named '{listener.name}' already. The name is what tells "
                "consumer groups apart: pass another listener_name."
            )
        self.listeners.append(listener)
        self._change_worker(lambda worker: worker.add_listener(listener))

    def _change_worker(self, make: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
        """Have a running worker take in what is new; in a plain thread, return when it has."""
        worker = self._worker
        if worker is None or worker.loop.is_closed():
            return
        change = asyncio.run_coroutine_threadsafe(make(worker), worker.loop)
        if asyncio._get_running_loop() is None:
            with contextlib.suppress(TimeoutError):  # it goes on by itself
                change.result(CHANGE_TIMEOUT)

    def _check_event_name(self, api_name: str, name: str) -> None:
        api = self.api_registry.find(api_name)
        if api is not None and name != "*":
            api.get_event(name)

    def _check_group(self, name: str) -> None:
        default = self.config.default_name
        if default is not None and not default.says_something and "{" not in name:
            raise InvalidEventListener(
                f"The listener {name} needs a service name: this program's would be '{default.name}', which another "
                "service may have, too, and then each would get half of the events. "
                "Write lightbus.create(service_name='...'), or set LIGHTBUS_SERVICE_NAME."
            )

    # Hooks and plugins

    async def run_hook(self, name: str, **details: Any) -> None:
        """Run the functions and plugins of a hook; `def` functions in a thread, so that they may block."""
        if self.hooks.has(name):
            await self.hooks.run(name, call_sync=self._call_sync, client=self, **details)

    async def _call_sync(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        run = partial(contextvars.copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.engine.executor, run)

    def load_plugins(self) -> None:
        """Load the plugins that the settings enable, once."""
        if self._plugins_loaded:
            return
        from .plugins import load_plugins, register_plugin

        loaded = [*self._plugins, *load_plugins(self.config)]
        self._plugins_loaded = True
        for plugin in loaded:
            register_plugin(self.hooks, plugin)

    # Schedules

    def every(
        self,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        also_run_immediately: bool = False,
    ) -> Callable[[F], F]:
        """Run the decorated function at a fixed interval, without drift. Raises InvalidSchedule."""
        interval = seconds + 60 * minutes + 3600 * hours + 86400 * days
        if interval <= 0:
            raise InvalidSchedule("every() needs an interval, as every(minutes=5).")

        def decorate(function: F) -> F:
            self._add_timetable(every(function, seconds=interval, also_run_immediately=also_run_immediately))
            return function

        return decorate

    def schedule(self, schedule_job: ScheduleJob, also_run_immediately: bool = False) -> Callable[[F], F]:
        """Run the decorated function when a job of the `schedule` library is due. Raises InvalidSchedule."""

        def decorate(function: F) -> F:
            self._add_timetable(scheduled(function, schedule_job, also_run_immediately=also_run_immediately))
            return function

        return decorate

    def add_background_task(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside the worker; it is cancelled when the worker stops."""
        self._background_tasks.append(coroutine)

    def take_background_tasks(self) -> list[Coroutine[Any, Any, Any]]:
        """Return the background tasks that were added, and forget them: a coroutine runs once."""
        taken, self._background_tasks = self._background_tasks, []
        return taken

    def _add_timetable(self, timetable: Timetable) -> None:
        self.timetables.append(timetable)

    # Schemas and names

    def parameter_schema(self, api_name: str, name: str) -> JsonSchema:
        """Return the schema of a procedure's or an event's arguments; asked of a peer where it is not known here."""
        schema = self.schema_of(api_name, f"{name}.parameter_schema")
        if (api_name, name) in schema.events:
            return _part(schema.get_event_schema(api_name, name), "parameters")
        return _part(schema.get_rpc_schema(api_name, name), "parameters")

    def response_schema(self, api_name: str, name: str) -> JsonSchema | None:
        """Return the schema of a procedure's result; asked of a peer where it is not known here."""
        schema = self.schema_of(api_name, f"{name}.response_schema")
        found = schema.get_rpc_schema(api_name, name).get("response")
        return found if isinstance(found, dict) else None

    def schema_of(self, api_name: str, what_for: str) -> Schema:
        """
        Return schemas among which is that of `api_name`: asked of a peer, if it is neither registered nor loaded here.

        Raises UnknownApi, and CannotBlockHere where an event loop would have to wait (`what_for` says what to write).
        """
        if self.schema.knows(api_name):
            return self.schema
        engine = self.engine
        if api_name not in engine.snapshot.by_api:
            self._forbid_asking(api_name, what_for)
            self._door().resolve(api_name, Deadline.after(self.config.api(api_name).rpc_timeout))
        peer = engine.snapshot.by_api[api_name][0]
        digest = next((api.digest for api in peer.announcement.apis or () if api.name == api_name), "")
        known_as, until = self._asked.get(api_name, ("", 0.0))
        if known_as != digest or until < time.monotonic():
            self._forbid_asking(api_name, what_for)
            found = self.call_rpc_blocking("internal.peer", "schema", {"api": api_name}, {"peer": peer.instance})
            self._peers_schema.add_foreign(api_name, found)
            self._asked[api_name] = digest, time.monotonic() + self.config.bus.options.ttl
        return self._peers_schema

    def _forbid_asking(self, api_name: str, what_for: str) -> None:
        forbid_in_loop(
            f"Asking a peer for the schema of '{api_name}'", f"asyncio.to_thread(lambda: bus.{api_name}.{what_for})"
        )

    def completions(self, parts: tuple[str, ...]) -> list[str]:
        """Return what can follow `parts` in a path, from what is registered here and what is known of the bus."""
        names: set[str] = set()
        for api in self.api_registry.all():
            names.update(f"{api.meta.name}.{member}" for member in (*api.procedures, *api.events))
        engine = self._engine
        if engine is not None:
            for peer in engine.snapshot.peers.values():
                for info in peer.announcement.apis or ():
                    names.update(f"{info.name}.{member}" for member in (*info.procedures, *info.events))
        depth = len(parts)
        split = (tuple(name.split(".")) for name in names)
        return sorted({name[depth] for name in split if len(name) > depth and name[:depth] == parts})

    def wait_for_apis(self, *names: str, timeout: float = 5.0) -> None:
        """Return when each of these APIs is advertised by a peer that is up. Raises LightbusTimeout."""
        forbid_in_loop("wait_for_apis()", "bus.client.wait_for_apis_async()")
        engine = self.engine
        deadline = Deadline.after(timeout)
        missing = engine.wait_for_blocking(names, deadline)
        self._check_none_missing(missing, timeout)

    async def wait_for_apis_async(self, *names: str, timeout: float = 5.0) -> None:
        """Do the same on an event loop."""
        deadline = Deadline.after(timeout)
        missing = await self.engine.wait_for(names, deadline)
        self._check_none_missing(missing, timeout)

    def _check_none_missing(self, missing: list[str], timeout: float) -> None:
        if missing:
            there = ", ".join(self.engine.snapshot.api_names()) or "nothing"
            raise LightbusTimeout(f"Within {timeout} s no peer advertised {', '.join(missing)}. Advertised: {there}.")

    # A worker's life

    @property
    def is_worker(self) -> bool:
        """Whether this process runs a worker of this bus, or starts or stops one."""
        return self._worker is not None

    def set_features(self, features: Iterable[Feature | str]) -> None:
        """Choose what a worker does: rpcs, events, tasks. Before it starts."""
        self.features = tuple(Feature(feature) for feature in features)

    async def start_worker(self) -> None:
        """Serve the APIs and listeners on the running loop, beside whatever else it does, and return."""
        if self._worker is not None:
            raise UnsupportedUse("This bus has a running worker already; stop_worker() ends it.")
        worker = self._worker = Worker(self, self.features)
        try:
            await worker.start()
        except BaseException:
            await self.stop_worker()
            raise

    async def stop_worker(self) -> None:
        """Finish what runs, leave the bus, and return; the client goes on."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        await worker.stop()
        self.exit_code = max(self.exit_code, worker.exit_code)

    async def consume_rpcs(self) -> None:
        """Serve procedures only, until told to stop (upstream's name)."""
        self.set_features([Feature.RPCS])
        await self.start_worker()
        assert self._worker is not None
        await self._worker.stopping.wait()
        await self.stop_worker()

    def run_forever(self) -> int:
        """
        Run a worker until SIGINT, SIGTERM or `request_shutdown`; return the exit code. A second signal ends it at once.

        Raises LightbusServerMustStartInMainThread elsewhere, and CannotBlockHere inside a running event loop.
        """
        forbid_in_loop("run_forever()", "bus.client.start_worker()")
        if threading.current_thread() is not threading.main_thread():
            raise LightbusServerMustStartInMainThread(
                "run_forever() handles signals, which only the main thread can. "
                "Use start_in_background() for a worker beside something else."
            )
        keep_freed_memory()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._run(signals=True))
        return self.exit_code

    def start_in_background(self) -> None:
        """Run a worker in a thread beside this program (a web process, say), and return when it serves."""
        forbid_in_loop("start_in_background()", "bus.client.start_worker()")
        if self._background is not None or self._worker is not None:
            raise UnsupportedUse("This bus has a running worker already.")
        ready: Future[None] = Future()
        self._background = threading.Thread(
            target=lambda: asyncio.run(self._run(ready)), name="lightbus-worker", daemon=True
        )
        self._background.start()
        ready.result(BACKGROUND_START_TIMEOUT)

    def request_shutdown(self) -> None:
        """Ask a running worker to stop; from any thread or handler."""
        if self._worker is not None:
            self._worker.request_stop()

    async def _run(self, ready: Future[None] | None = None, *, signals: bool = False) -> None:
        try:
            if signals:
                self._handle_signals()
            await self.start_worker()
        except BaseException as error:
            if ready is None:
                raise
            ready.set_exception(error)
            return
        if ready is not None:
            ready.set_result(None)
        assert self._worker is not None
        await self._worker.stopping.wait()
        left_behind = self._worker
        await self.stop_worker()
        if signals and left_behind.left_behind:
            logging.shutdown()
            os._exit(self.exit_code)  # threads that run a handler can neither be stopped nor waited for

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def stop(number: int) -> None:
            if seen:
                logging.shutdown()
                os._exit(128 + number)
            seen.append(number)
            logger.info("Stopping, on %s; once more ends it at once", signal.Signals(number).name)
            if self._worker is not None:
                self._worker.request_stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)

    # The end

    def close(self) -> None:
        """Leave the bus and close everything; bounded. Idempotent. An event loop uses `close_async`."""
        forbid_in_loop("close()", "bus.client.close_async()")
        self._stop_worker_elsewhere()
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close(at_exit=is_exiting())

    async def close_async(self) -> None:
        """Leave the bus and close everything; bounded. Idempotent."""
        if self._worker is not None and self._worker.loop is asyncio.get_running_loop():
            await self.stop_worker()
        await asyncio.to_thread(self._stop_worker_elsewhere)
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close_async()

    def _stop_worker_elsewhere(self) -> None:
        worker, thread = self._worker, self._background
        settings = self.config.worker
        if worker is not None and not worker.loop.is_closed():
            with contextlib.suppress(RuntimeError):
                worker.request_stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(settings.drain_grace + settings.shutdown_timeout + 1.0)
            self._background = None

    def __enter__(self) -> BusClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where the extra of that name is installed; a dedicated worker is ours to choose for."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _taken(message: EventMessage, accepted: Accepted) -> None:
    message.native_id, message.publisher = accepted.native_id, accepted.publisher


def _check_options(options: BusOptions, known: Sequence[str], what: str) -> None:
    for option in options:
        if option not in known:
            raise InvalidParameters(
                f"bus_options of {what} has no option '{option}'.{did_you_mean(str(option), known)} "
                f"There are: {', '.join(known)}."
            )


def _timeout(options: BusOptions, default: float, what: str) -> float:
    timeout = options.get("timeout")
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidParameters(f"bus_options of {what}: timeout is {timeout!r}. It is a positive number of seconds.")
    return float(timeout)


def _part(schema: JsonSchema, part: str) -> JsonSchema:
    found: JsonSchema = schema[part]
    return found


def _result_message(message: RpcMessage, value: Any) -> ResultMessage:
    return ResultMessage(
        result=value,
        rpc_message_id=message.id,
        api_name=message.api_name,
        procedure_name=message.procedure_name,
    )


def _error_message(message: RpcMessage, error: LightbusException) -> ResultMessage:
    return ResultMessage(
        result=error,
        rpc_message_id=message.id,
        api_name=message.api_name,
        procedure_name=message.procedure_name,
        error=True,
        trace=getattr(error, "trace", ""),
    )


# Forks and the end of the process

_CLIENTS: weakref.WeakSet[BusClient] = weakref.WeakSet()
_GRAVEYARD: list[Any] = []
"""What a forked child inherited and must not touch: closing the parent's sockets here would use them twice."""


_FORKS = threading.local()
"""`resume`: what lets the engines go on that stand still for this thread's fork."""

FORK_PATIENCE = 0.5
"""Seconds for which a fork waits for an engine to stand still."""


def _before_fork() -> None:
    engines = [client._engine for client in list(_CLIENTS)]
    _FORKS.resume = [engine.pause(FORK_PATIENCE) for engine in engines if engine is not None]


def _after_fork_in_parent() -> None:
    for resume in _FORKS.resume:
        resume()


def _after_fork_in_child() -> None:
    for client in list(_CLIENTS):
        _GRAVEYARD.append((client._engine, client._blocking, client._worker, client._background, client._lock))
        client._engine = client._blocking = client._worker = client._background = None
        client._lock = threading.RLock()


def _at_exit() -> None:
    note_exit()
    for client in list(_CLIENTS):
        with contextlib.suppress(Exception):
            client.close()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
atexit.register(_at_exit)
