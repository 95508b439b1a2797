"""The life cycle of a worker: bind, start, announce, serve; drain, send GOODBYE, stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from .. import __about__
from ..config.features import ALL_FEATURES, Feature
from ..deadline import Deadline
from ..events.event_publisher import EventPublisher
from ..exceptions import JournalError, LightbusShutdownInProgress
from ..listener import Listener
from ..service.execution import Execution, is_cancelled
from ..service.failures import as_exception, report
from .advertising import api_infos
from .assembly import Served, WorkerParts, assemble, published_apis
from .events_api import EventsApi
from .node import Node
from .peer_api import PeerApi
from .schedule_election import SchedulesApi, election_of
from .watchdog import Watchdog
from .worker_tasks import TasksUser, WorkerTasks

__all__ = ["Worker", "WorkerUser"]

logger = logging.getLogger("lightbus.worker")

_stops_for: ContextVar[object] = ContextVar("lightbus_stops_for", default=None)
"""In a stop hook: the worker that it belongs to."""


class WorkerUser(Served, TasksUser, Protocol):
    """The client that a worker serves."""

    def load_plugins(self) -> None:
        """Load the plugins that the settings enable, once."""

    def adopt_publisher(self, publisher: EventPublisher) -> None:
        """Set the publisher of the events that this process fires."""

    def worker_left(self, worker: Worker) -> None:
        """Record that a worker has stopped."""


class Worker:
    """
    One run of a worker, on the running loop. It cannot be started again after `stop`.

    Args:
        client: the client whose APIs, listeners and schedules are served.
        features: which of these are served.
        publishes_only: whether the worker was started only to publish events, not by the user. Then it runs no hooks,
            and logs only that it publishes.

    Attributes:
        parts: the parts of the worker; None until the first start hook has run.
        watchdog: detects a blocked loop.
        left_behind: number of handlers that were still running at the end of `shutdown_timeout`.

    """

    def __init__(self, client: WorkerUser, features: Sequence[Feature], *, publishes_only: bool = False) -> None:
        self.client = client
        self.publishes_only = publishes_only
        self.features = frozenset(features)
        self.engine = client.engine
        self.stopping = asyncio.Event()
        self.exit_code = 0
        self.left_behind = 0
        self.loop = asyncio.get_running_loop()
        self.parts: WorkerParts | None = None
        self._life = Execution(self.loop, self.engine.executor)
        """Runs the start and stop hooks, which share a context."""
        self._election = election_of(self.engine, self._join_schedules)
        self._tasks = WorkerTasks(
            client, self.engine.executor, on_failure=lambda: self.request_stop(1), election=self._election
        )
        self._node: Node | None = None
        self.watchdog = Watchdog()
        self._added: list[Listener] = []
        self._advertising: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    # Life cycle

    async def start(self) -> None:
        """
        Bind the sockets, run the start hooks, start the listeners, and announce the APIs.

        Raises LightbusShutdownInProgress if the worker is stopped meanwhile.
        """
        self._starting = self.loop.create_task(self._start())
        try:
            await self._starting
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise LightbusShutdownInProgress("The worker was stopped before it had started.") from None

    async def _start(self) -> None:
        client = self.client
        node = self._node = await self.engine.loop_host.adopt(self._release)
        self.watchdog.start()
        client.load_plugins()
        await self._hook("before_worker_start")
        parts = self.parts = assemble(
            client,
            node,
            serves_calls=self._serves_calls,
            on_fatal=self._on_fatal,
            on_stopped=self._on_stopped,
            on_kept_changed=lambda: self._spawn(self.api_registered()),
            election=self._election,
        )
        self._serve_process(parts)
        # Before the announcement, so that `on_start` is done when the first call arrives.
        await self._hook("on_start")
        if Feature.EVENTS in self.features:
            # Concurrently: each waits for its publishers' confirmation.
            await asyncio.gather(*(self.add_listener(listener) for listener in client.listeners))
        await self.api_registered()
        await parts.presence.announce()
        if Feature.TASKS in self.features:
            self._tasks.start()
        self._log_start()
        await self._hook("after_worker_started")

    async def stop(self) -> None:
        """
        Drain, finish running handlers, send GOODBYE, stop. Bounded by `drain_grace` and `shutdown_timeout`.

        All who call this return at the same end, which comes also if one of them, a handler for example, is cancelled.
        Only a stop hook returns at once: it is a part of that end, and would wait for itself.
        """
        if _stops_for.get() is self:
            return
        if self._ending is None:
            self._ending = self.loop.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            if self._starting is not None:
                self._starting.cancel()  # does nothing if it is done
                await asyncio.wait([self._starting])
                if self._starting.cancelled():
                    # A hook that is a `def` goes on in its thread, in this context, which nothing else can enter now.
                    self._life.context = self._life.context.copy()
            self._life.run(_stops_for.set, self)
            await self._stop()
        finally:
            self.client.worker_left(self)

    async def _stop(self) -> None:
        settings = self.engine.config.worker
        node, self._node = self._node, None
        if node is None:
            return
        self.stopping.set()
        self._tasks.cancel()
        for task in self._advertising:
            task.cancel()
        self.watchdog.stop()
        if self.parts is not None:
            self.parts.learner.stop()
        self._election.stop()
        await node.drain(settings.drain_grace)
        if self.parts is not None:
            await self._finish(self.parts, settings.shutdown_timeout)
        await self._tasks.wait(settings.shutdown_timeout)
        await self._last_hook("on_stop")
        self.engine.publish_by(None)
        if self.parts is not None:
            await self.parts.stop()
        await self.engine.loop_host.release()
        self.engine.journals.release()
        await self._last_hook("after_worker_stopped")
        logger.info("Stopped %s", self.engine.identity)

    async def _finish(self, parts: WorkerParts, seconds: float) -> None:
        """Wait for running handlers of calls and events, at most so many seconds."""
        await parts.consumer.stop(seconds)
        if parts.backend_listeners is not None:
            await parts.backend_listeners.stop()
        self.left_behind = await parts.server.finish(seconds)
        if self.left_behind:
            logger.warning(
                "%d of the running handlers did not end within %s s; the worker stops without them: %s",
                self.left_behind, seconds, ", ".join(parts.server.executed_now) or "they had not begun",
            )  # fmt: skip

    def _release(self) -> None:
        """Release everything, because the node has left this loop: in `stop`, or when the loop ends without it."""
        if self._node is not None:  # not in `stop`: the loop ends
            self.engine.publish_by(None)
            if self.parts is not None:
                self.parts.release()
            self.engine.journals.release()
        self._node = None
        self.watchdog.stop()
        self.client.worker_left(self)
        for name in (PeerApi.Meta.name, EventsApi.Meta.name, SchedulesApi.Meta.name):
            if name in self.client.api_registry.names():
                self.client.api_registry.remove(name)

    def request_stop(self, exit_code: int = 0) -> None:
        """Ask the worker to stop. Thread-safe."""
        self.exit_code = max(self.exit_code, exit_code)
        self.loop.call_soon_threadsafe(self.stopping.set)

    # Changes while running

    async def api_registered(self) -> None:
        """Advertise the registered APIs, after one was added or removed."""
        if self._node is None or self.parts is None:
            return
        infos = api_infos(
            self.client.api_registry,
            self.client.schema,
            serves_calls=self._serves_calls,
            kept=self.parts.orphaned_journals.apis(),
            schedules=self._election.names,
        )
        await self.parts.presence.advertise(infos)

    async def add_listener(self, listener: Listener) -> None:
        """Start a listener that was declared after the start."""
        if self._node is None or self.parts is None or Feature.EVENTS not in self.features:
            return
        if listener in self._added:
            return
        self._added.append(listener)  # listeners declared in `on_start` are passed here twice
        self.engine.wanted.add(listener.api)
        publishers = self.engine.snapshot.publishers(listener.api)
        try:
            await self.parts.consumer.add(listener, publishers)
            if self.parts.backend_listeners is not None:
                await self.parts.backend_listeners.add(listener)
        except BaseException:  # an event backend does not start, or it takes too long
            await self._remove_listener(self.parts, listener)
            raise
        self.parts.learner.add_listener(listener, publishers)

    async def _remove_listener(self, parts: WorkerParts, listener: Listener) -> None:
        """Undo what `add_listener` has done so far: it must not have a part of the events, or stay in its group."""
        self._added.remove(listener)
        await parts.consumer.remove(listener, self.engine.config.worker.shutdown_timeout)
        if parts.backend_listeners is not None:
            await parts.backend_listeners.remove(listener)

    async def start_tasks(self) -> None:
        """Start the declared schedules and background tasks that do not run yet."""
        self._tasks.start_new()

    async def _join_schedules(self) -> None:
        """Discover the other workers, and advertise which schedules this one can run."""
        await self.engine.questions.discover_all(Deadline.after(self.engine.config.discovery.wait))
        await self.api_registered()

    # Parts

    @property
    def _serves_calls(self) -> bool:
        return Feature.RPCS in self.features

    def _serve_process(self, parts: WorkerParts) -> None:
        """Make this process publish its events, and serve the `internal.` APIs."""
        registry = self.client.api_registry
        self._open_journal()
        self.client.adopt_publisher(parts.outgoing)
        self.engine.wanted.update(published_apis(registry))  # other publishers of these report the known groups
        for api in parts.internal_apis:
            if api.meta.name in registry.names():  # left by a worker that this process was forked from
                registry.remove(api.meta.name)
            registry.add(api)

    def _open_journal(self) -> None:
        """Open the journal if it will be needed: the groups must be on disk before the first event."""
        elsewhere = self.engine.event_backends.has
        apis = [api for api in self.client.api_registry.all() if not elsewhere(api.meta.name)]
        events = [event for api in apis for event in api.events.values()]
        if all(event.delivery == "best_effort" for event in events):
            return
        try:
            self.engine.journals.own()
        except JournalError as error:
            logger.error("%s Until then this process cannot fire events that are kept.", error)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._advertising.add(task)
        task.add_done_callback(self._advertising.discard)

    # Notifications

    async def _hook(self, name: str) -> None:
        """Run a start hook. Raises the error of a function as an Exception; then the rest does not run."""
        for function in self._functions(name):
            if (failure := await self._failure(name, function)) is not None:
                raise failure

    async def _last_hook(self, name: str) -> None:
        """Run a stop hook: each function, to stop what it has started, whatever another one raises, which is logged."""
        for function in self._functions(name):
            if (failure := await self._failure(name, function)) is not None:
                report(logger, logging.ERROR, failure, "The hook %s failed; the worker still stops", name)
                self.exit_code = max(self.exit_code, 1)

    def _functions(self, name: str) -> Iterable[Coroutine[Any, Any, None]]:
        if self.publishes_only:
            return ()
        return self.client.hooks.each(name, self._life.call, client=self.client.hook_client)

    async def _failure(self, name: str, function: Coroutine[Any, Any, None]) -> Exception | None:
        """Call a function of a hook; return its error as an Exception."""
        try:
            await self._life.in_own_task(function)
        except BaseException as error:
            if is_cancelled():
                raise
            return as_exception(f"The hook {name}", error)
        return None

    def _on_fatal(self, listener: Listener, error: Exception) -> None:
        logger.error(
            "The worker stops, since the listener %s failed and its on_error is SHUTDOWN. "
            "Use on_error=OnError.STOP_LISTENER, RETRY or ACKNOWLEDGE_AND_LOG to go on.",
            listener.name,
        )
        self.request_stop(1)

    def _on_stopped(self, listener: Listener, error: str) -> None:
        logger.critical(
            "The listener %s has stopped, since its handler failed: %s. The worker continues without it, and will exit "
            "with code 1. Its events go to the other processes of its group, or wait. Mend the handler, look at "
            "lightbus dead list, and start the worker again.",
            listener, error,
        )  # fmt: skip
        self.exit_code = max(self.exit_code, 1)
        if self.parts is not None and self.parts.backend_listeners is not None:
            self.parts.backend_listeners.stopped(listener)

    def _log_start(self) -> None:
        engine = self.engine
        if self.publishes_only:
            logger.info("Nobody else publishes the events of %s: this process does", engine.identity.service)
            return
        served = ", ".join(api.meta.name for api in self.client.api_registry.public()) or "no API"
        logger.info(
            "Lightbus %s, bus '%s', service '%s'", __about__.version(), engine.identity.bus, engine.identity.service
        )
        logger.log(engine.transport.security.level, "%s", engine.transport.security.describe())
        if len(self.features) < len(ALL_FEATURES):
            logger.info("Doing only: %s", ", ".join(sorted(feature.value for feature in self.features)) or "nothing")
        for listener in self.client.listeners if Feature.EVENTS in self.features else ():
            logger.info("Listening: %s", listener)
        where = engine.snapshot.peers[engine.identity.instance].endpoint
        logger.info("Serving %s at %s as %s. Ready.", served, where, engine.identity)
