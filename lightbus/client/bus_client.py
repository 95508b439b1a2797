"""`BusClient`: the interface of a bus to programs, besides its paths. It makes the parts, and delegates to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..blocking import forbid_in_loop
from ..config import Config, Feature, features_of
from ..engine.engine import Engine
from ..exceptions import InvalidDeclaration, InvalidEventListener, InvalidSchedule
from ..keywords import also_named, unknown_keywords_raise
from ..listener import Listener, OnError
from ..message import EventMessage
from ..scheduling import ScheduleJob, Timetable
from ..service.api import Api
from ..service.hooks import HookRegistry
from ..typing import BusOptions, Kwargs
from .call_or_fire import CallOrFire
from .calling import Calling
from .engine_holder import EngineHolder, EngineState, MakeEngine
from .firing import Firing
from .firing_many import FiringMany
from .history import History
from .hook_runner import HookPoint, HookRunner
from .lifecycle import Lifecycle
from .listening import DURABLE, Listening
from .made_events import MadeEvents
from .names import Names
from .old_client_names import OldClientNames
from .outbox import UnpublishedEvents
from .peer_schemas import PeerSchemas
from .plugin_loader import PluginLoader
from .process_hooks import InProcess
from .registration import Registration
from .schedules import Schedules
from .worker_holder import WorkerHolder
from .worker_view import WorkerView

if TYPE_CHECKING:
    from ..engine.worker import Worker

__all__ = ["BusClient"]

F = TypeVar("F", bound=Callable[..., Any])


class BusClient(OldClientNames):
    """
    One bus in this process. Making a client opens no thread, socket or file.

    Any thread and any event loop may use it; after a fork the child has a fresh client with the same settings.

    Args:
        config: the settings.
        plugins: plugins in addition to those that the settings enable.
        make_engine: called at first use, makes the engine.

    """

    on_start = HookPoint()
    on_stop = HookPoint()
    before_worker_start = HookPoint()
    after_worker_started = HookPoint()
    after_worker_stopped = HookPoint()
    before_rpc_call = HookPoint()
    after_rpc_call = HookPoint()
    before_rpc_execution = HookPoint()
    after_rpc_execution = HookPoint()
    before_event_sent = HookPoint()
    after_event_sent = HookPoint()
    before_event_execution = HookPoint()
    after_event_execution = HookPoint()
    on_events_lost = HookPoint()
    around_rpc_call = HookPoint()
    around_rpc_execution = HookPoint()
    around_event_sent = HookPoint()
    around_event_execution = HookPoint()

    def __init__(
        self, config: Config, *, plugins: Sequence[Any] | None = None, make_engine: MakeEngine = Engine
    ) -> None:
        self.config = config
        self.hooks = HookRegistry()
        loader = PluginLoader(config, self.hooks, plugins or ())
        engines = self._engines = EngineHolder(config, make_engine, loader.load)
        self.lazy_load_now = engines.make_now
        workers = self._workers = WorkerHolder(tuple(config.features))
        registration = self._registration = Registration(workers, human_readable=config.bus.options.human_readable)
        self.api_registry, self.schema = registration.apis, registration.schema
        schedules = self._schedules = Schedules(workers)
        listening = self._listening = Listening(config, registration.apis, workers)
        hooks = HookRunner(self, self.hooks, engines)
        schemas = PeerSchemas(config, engines, registration)
        self._calling = Calling(config, engines, registration, hooks, schemas)
        self.names = Names(config, engines, registration, self._calling)
        self.history = History(config, engines, self._calling, listening.listeners)
        unpublished = self._unpublished = UnpublishedEvents(
            engines, registration, workers, publish=lambda: self._lifecycle.start_publishing()
        )
        self._firing = Firing(config, engines, registration, hooks, unpublished, schemas)
        self.firing_many = FiringMany(self._firing, engines, hooks, unpublished)
        self.made_events = MadeEvents(self._firing, self.firing_many, engines, hooks)
        self.call_or_fire = CallOrFire(
            config, engines, registration, unpublished, call=self.call_rpc_blocking, fire=self.fire_event_blocking
        )
        view = WorkerView(
            hook_client=self,
            hooks=self.hooks,
            engines=engines,
            workers=workers,
            registration=registration,
            listening=listening,
            schedules=schedules,
            unpublished=unpublished,
            plugins=loader,
        )
        self._lifecycle = Lifecycle(config, view, engines, workers, unpublished, schedules)
        self._in_process = InProcess(engines, workers, unpublished, self._lifecycle, close=self.close)

    # State

    @property
    def engine(self) -> Engine:
        """The engine of this process, made at first use. Raises BusAlreadyClosed."""
        return self._engines.engine

    @property
    def service_name(self) -> str:
        """The name of the service this process belongs to."""
        return self._engines.engine.identity.service

    @property
    def process_name(self) -> str:
        """The name of this process."""
        return self._engines.engine.identity.process

    @property
    def listeners(self) -> list[Listener]:
        """The listeners that were declared."""
        return self._listening.listeners

    @property
    def timetables(self) -> list[Timetable]:
        """The declared schedules."""
        return self._schedules.timetables

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features of a worker: rpcs, events, tasks."""
        return self._workers.features

    @property
    def worker(self) -> Worker | None:
        """The worker that is starting, running or stopping here: for tools and tests."""
        return self._workers.worker

    @property
    def is_worker(self) -> bool:
        """Whether a worker of this bus is starting, running or stopping in this process."""
        return self._workers.worker is not None

    @property
    def exit_code(self) -> int:
        """The exit code for this process: the highest exit code of its workers so far."""
        return self._workers.exit_code

    @property
    def dropped_events(self) -> int:
        """Best-effort events that were dropped because they had no publisher."""
        return self._unpublished.dropped

    def exchange_engine(self, state: EngineState = EngineState()) -> EngineState:  # noqa: B008  it never changes
        """Replace the engine, by default with none as at first, and return the former state (`lightbus.testing`)."""
        return self._engines.exchange(state)

    # Declaring

    def register_api(self, api: Api) -> None:
        """
        Offer an API: its procedures can be called, and its events fired.

        A running worker advertises it at once. `api_registry.remove(name)` removes it.

        Raises:
            InvalidApiRegistryEntry: `api` is no instance of an Api class.
            InvalidName: `bus.<api>.<name>` could not lead to one of its names.
            InvalidDeclaration: an annotation names a type that cannot be sent.

        """
        self._registration.add(api)

    @unknown_keywords_raise(InvalidEventListener)
    def listen_for_event(
        self,
        api_name: str,
        name: str,
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        group: str | None = DURABLE,
        concurrency: int = 1,
        max_deliveries: int = 5,
        options: BusOptions | None = None,
        on_error: OnError | None = None,
        batch: int | None = None,
        batch_wait: float = 0.05,
    ) -> None:
        """Call `listener` for each of these events. See `BusPath.listen`."""
        self.listen_for_events(
            [(api_name, name)],
            listener,
            listener_name=listener_name,
            group=group,
            concurrency=concurrency,
            max_deliveries=max_deliveries,
            options=options,
            on_error=on_error,
            batch=batch,
            batch_wait=batch_wait,
        )

    @unknown_keywords_raise(InvalidEventListener)
    def listen_for_events(
        self,
        events: Iterable[tuple[str, str]],
        listener: Callable[..., Any],
        *,
        listener_name: str | None = None,
        group: str | None = DURABLE,
        concurrency: int = 1,
        max_deliveries: int = 5,
        options: BusOptions | None = None,
        on_error: OnError | None = None,
        batch: int | None = None,
        batch_wait: float = 0.05,
    ) -> None:
        """
        Call `listener` for each of several events, given as `(api name, event name)`; `"*"` is every event of an API.

        Raises InvalidEventListener, DuplicateListenerName, NothingToListenFor, EventNotFound.
        """
        self._listening.listen(
            events,
            listener,
            listener_name=listener_name,
            group=group,
            concurrency=concurrency,
            max_deliveries=max_deliveries,
            options=options,
            on_error=on_error,
            batch=batch,
            batch_wait=batch_wait,
        )

    @unknown_keywords_raise(InvalidSchedule)
    def every(
        self,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        weeks: float = 0,
        milliseconds: float = 0,
        microseconds: float = 0,
        also_run_immediately: bool = False,
        once_per_service: bool = False,
    ) -> Callable[[F], F]:
        """
        Run the decorated function at a fixed interval, without drift, in each worker. Raises InvalidSchedule.

        With `once_per_service` one worker of the service runs it each time, at least once (docs/hooks.md). An exception
        of the function is logged, and the function runs again at its next time.
        """
        return self._schedules.every(
            seconds=seconds,
            minutes=minutes,
            hours=hours,
            days=days,
            weeks=weeks,
            milliseconds=milliseconds,
            microseconds=microseconds,
            also_run_immediately=also_run_immediately,
            once_per_service=once_per_service,
        )

    @also_named(schedule="schedule_job")
    @unknown_keywords_raise(InvalidSchedule)
    def schedule(self, schedule_job: ScheduleJob, also_run_immediately: bool = False) -> Callable[[F], F]:
        """Run the decorated function when a job of the `schedule` library is due. Raises InvalidSchedule."""
        return self._schedules.schedule(schedule_job, also_run_immediately=also_run_immediately)

    @unknown_keywords_raise(InvalidDeclaration)
    def add_background_task(self, coroutine: Awaitable[Any]) -> None:
        """
        Run a coroutine, once, beside the worker: from the worker's start on, or at once if the worker is running.

        It is cancelled when the worker stops. If it raises, the error is logged, and the worker stops with exit code 1.

        Args:
            coroutine: the result of calling an `async def` function, or another awaitable.

        Raises:
            InvalidDeclaration: it is a function, or another object that cannot be awaited.

        """
        self._schedules.add_background_task(coroutine)

    # Calling and firing. These return the part's own coroutine, which saves one coroutine for each message.

    def call_rpc_remote(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Call a procedure and return its result. Raises what `BusPath.__call__` raises."""
        return self._calling.call(api_name, name, kwargs, options)

    def call_rpc_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Call a procedure from a plain thread. Raises CannotBlockHere inside a running event loop."""
        return self._calling.call_blocking(api_name, name, kwargs, options)

    def fire_event(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Coroutine[Any, Any, EventMessage]:
        """Fire an event and return it when it is on a disk. Raises what `BusPath.fire` raises."""
        return self._firing.fire(api_name, name, kwargs, options)

    def fire_event_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Fire an event from a plain thread. Raises CannotBlockHere inside a running event loop."""
        return self._firing.fire_blocking(api_name, name, kwargs, options)

    def wait_for_apis(self, *names: str, timeout: float = 5.0) -> None:
        """Return when each of these APIs is advertised by a peer that is up. Raises LightbusTimeout."""
        self.names.wait_for_apis(*names, timeout=timeout)

    async def wait_for_apis_async(self, *names: str, timeout: float = 5.0) -> None:
        """Wait, on an event loop, until each of these APIs is advertised. Raises LightbusTimeout."""
        await self.names.wait_for_apis_async(*names, timeout=timeout)

    # The lifecycle of a worker, and closing

    def set_features(self, features: Iterable[Feature | str] | str) -> None:
        """Set the features of the next worker: rpcs, events, tasks. Raises InvalidConfiguration for any other."""
        self._workers.features = features_of(features)

    async def start_worker(self) -> None:
        """Start serving the APIs and listeners on the running loop, beside its other tasks, and return."""
        await self._lifecycle.start_worker()

    async def stop_worker(self) -> None:
        """Finish the handlers that run, leave the bus, and return, from any loop; the client stays usable."""
        await self._lifecycle.stop_worker()

    async def consume_rpcs(self, apis: Sequence[Api] | None = None) -> None:
        """Serve procedures only, until stopped; `apis`, if given, must be all registered APIs (an argument of 1.x)."""
        await self._lifecycle.consume_rpcs(apis)

    def run_forever(self) -> int:
        """
        Run a worker until SIGINT, SIGTERM or `request_shutdown`; return the exit code. A second signal ends it at once.

        Raises LightbusServerMustStartInMainThread outside of the main thread, CannotBlockHere inside a running event
        loop, and UnsupportedUse at the top level of a bus module that is being imported.
        """
        return self._lifecycle.run_forever()

    def start_in_background(self) -> None:
        """
        Run a worker in a thread beside this program (a web process, for example), and return when it serves.

        Raises UnsupportedUse if this bus has a worker already, LightbusTimeout if it does not serve within 15 seconds,
        BusAlreadyClosed if the bus is closed meanwhile, and the error of a start hook.
        """
        self._lifecycle.start_in_background()

    def request_shutdown(self) -> None:
        """Ask a running worker to stop; from any thread or handler."""
        self._workers.request_stop()

    stop_loop = request_shutdown
    """The name of `request_shutdown` in 1.x."""

    def close(self) -> None:
        """Leave the bus and close everything, in bounded time. Idempotent. On an event loop use `close_async`."""
        forbid_in_loop("close()", "bus.client.close_async()")
        self._lifecycle.close()

    async def close_async(self) -> None:
        """Leave the bus and close everything, in bounded time. Idempotent."""
        await self._lifecycle.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
