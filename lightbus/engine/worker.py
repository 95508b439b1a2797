"""A worker's life: bind, start, announce, serve; drain, say goodbye, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from .. import __about__
from ..adapters.sqlite.journal import Journal
from ..config.features import ALL_FEATURES, Feature
from ..core.peers import Peer
from ..events.consumer import Consumer
from ..events.coordinator import Coordinator
from ..events.events_api import EventsApi, group_of_wire
from ..events.fitting import Fitting
from ..events.journal_set import Care
from ..events.left_behind import LeftBehind
from ..events.publisher import Publisher
from ..exceptions import JournalError, LightbusException
from ..listener import Listener
from ..ports.transport import Endpoints
from ..rpc.server import Server
from ..service.execution import Execution, close_unused, is_cancelled, runs_on_loop
from ..service.failures import as_exception, report
from ..service.hooks import HookRegistry
from ..wire.announcement import Announcement, ApiInfo
from ..wire.sizes import Receivers
from .binding import Binding
from .node import Node
from .peer_api import Described, Parts, PeerApi
from .watchdog import Watchdog

__all__ = ["Timetable", "Worker", "WorkerUser"]

logger = logging.getLogger("lightbus.worker")


class Timetable(Protocol):
    """When a function of the user's runs again."""

    def follow(self, run: Callable[[Callable[..., Any]], Awaitable[Any]]) -> Coroutine[Any, Any, None]:
        """Run the function whenever it is due, by `run`, for ever."""


class WorkerUser(Described, Protocol):
    """Whose worker it is: the client."""

    hooks: HookRegistry

    @property
    def timetables(self) -> Sequence[Timetable]:
        """The schedules that were declared."""

    def load_plugins(self) -> None:
        """Load the plugins that the settings enable, once."""

    def take_background_tasks(self) -> list[Awaitable[Any]]:
        """Return the background tasks that were added, and forget them."""

    def take_over(self, publisher: Publisher) -> None:
        """Become the publisher of what this process fires."""

    def worker_is_gone(self, worker: Worker) -> None:
        """Note that a worker has left."""

    async def call_rpc_remote(
        self, api_name: str, name: str, kwargs: dict[str, Any] | None = None, options: Any = None
    ) -> Any:
        """Call a procedure."""


class Worker:
    """
    One run of a worker, on the running loop. `stop` ends it for good.

    Args:
        client: whose APIs, listeners and schedules it serves.
        features: which of them.
        publishes_only: it is no worker to its user, who did not start it: no hook is run, and no more logged than that.

    """

    def __init__(self, client: WorkerUser, features: Sequence[Feature], *, publishes_only: bool = False) -> None:
        self.client = client
        self.publishes_only = publishes_only
        self.features = frozenset(features)
        self.engine = client.engine
        self.stopping = asyncio.Event()
        self.exit_code = 0
        self.left_behind = 0
        """Handlers that were still running when their time at shutdown was over."""
        self.loop = asyncio.get_running_loop()
        self._life = Execution(self.loop, self.engine.executor)
        """What the hooks of this run's start and end share."""
        self.server: Server | None = None
        self.consumer: Consumer | None = None
        self._node: Node | None = None
        self.coordinator: Coordinator | None = None
        self._care: Care | None = None
        self._left_behind: LeftBehind | None = None
        self._watchdog: Watchdog | None = None
        self._learning: set[asyncio.Task[None]] = set()
        self._fitting = Fitting(client.schema, self._ask_schema)
        self._added: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: list[Timetable] = []
        self._runs_tasks = False

    # Life

    async def start(self) -> None:
        """Bind, run the start hooks, set the listeners up, and announce."""
        client, engine = self.client, self.engine
        node = self._node = await engine.adopt(self._gone)
        self._watchdog = Watchdog()
        client.load_plugins()
        await self._hook("before_worker_start")
        binding = node.bind(self._announcement)
        self._make_parts(node, binding)
        # Before the announcement: what `on_start` prepares is there when the first call comes.
        await self._hook("on_start")
        await self._start_listeners()
        await node.advertise(self._api_infos())
        await node.announce()
        self._runs_tasks = True
        await self.start_tasks()
        self._log_start(node)

    async def stop(self) -> None:
        """Take nothing new, finish what runs, say goodbye. Bounded by `drain_grace` and `shutdown_timeout`."""
        settings = self.engine.config.worker
        node, self._node = self._node, None
        if node is None:
            return
        self.stopping.set()
        self._runs_tasks = False
        for task in (*self._tasks, *self._learning):
            task.cancel()
        if self._watchdog is not None:
            self._watchdog.stop()
        await node.drain(settings.drain_grace)
        if self.consumer is not None:
            await self.consumer.stop(settings.shutdown_timeout)
        if self.server is not None:
            self.left_behind = await self.server.finish(settings.shutdown_timeout)
        if self.left_behind:
            logger.warning(
                "%d of the running handlers did not end within %s s; the worker leaves without them",
                self.left_behind,
                settings.shutdown_timeout,
            )
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=settings.shutdown_timeout)
        await self._last_hook("on_stop")
        self.engine.publisher = None
        if self._care is not None:
            await self._care.stop()
        await self.engine.release()
        self.engine.shelf.release()
        await self._last_hook("after_worker_stopped")
        logger.info("Stopped %s", self.engine.identity)

    def _gone(self) -> None:
        """Take in that the node has left this loop: after `stop`, or since the loop ends without it."""
        if self._node is not None:  # not by `stop`: the loop ends
            self.engine.publisher = None
            if self._care is not None:
                self._care.abandon()
            self.engine.shelf.release()
        self._node = None
        if self._watchdog is not None:
            self._watchdog.stop()
        self.client.worker_is_gone(self)
        for name in (PeerApi.Meta.name, EventsApi.Meta.name):
            if name in self.client.api_registry.names():
                self.client.api_registry.remove(name)

    def request_stop(self, exit_code: int = 0) -> None:
        """Ask the worker to stop; from any thread."""
        self.exit_code = max(self.exit_code, exit_code)
        self.loop.call_soon_threadsafe(self.stopping.set)

    # Changes while running

    async def api_registered(self) -> None:
        """Advertise what is registered now: an Api was added or removed."""
        if self._node is not None:
            await self._node.advertise(self._api_infos())

    async def add_listener(self, listener: Listener) -> None:
        """Start a listener that was declared after the start."""
        if self._node is None or self.consumer is None or Feature.EVENTS not in self.features:
            return
        if listener in self._added:
            return
        self._added.append(listener)  # what `on_start` declares comes here twice: at once, and with the others
        self.engine.wanted.add(listener.api)
        publishers = self._publishers_of(listener.api)
        await self.consumer.add(listener, publishers)
        self._learn(self._fitting.check([listener], publishers))

    # Parts

    def _make_parts(self, node: Node, binding: Binding) -> None:
        client, engine = self.client, self.engine
        self.server = binding.server = Server(
            identity=engine.identity,
            config=engine.config,
            apis=client.api_registry,
            hooks=client.hooks,
            client=client,
            executor=engine.executor,
            reply=binding.reply,
            serves_calls=Feature.RPCS in self.features,
            service_of=binding.engines.service_of,
            max_message_size_of=binding.engines.max_message_size_of,
        )
        self._make_publisher(binding)
        self.consumer = node.consumer = Consumer(
            identity=engine.identity,
            transport=engine.transport,
            config=engine.config,
            apis=client.api_registry,
            hooks=client.hooks,
            client=client,
            executor=engine.executor,
            on_fatal=self._on_fatal,
            on_stopped=self._on_stopped,
        )
        assert self.coordinator is not None
        assert binding.publisher is not None
        parts = Parts(binding=binding, server=self.server, publisher=binding.publisher, consumer=self.consumer)
        peer_api = PeerApi(client, parts, version=__about__.version())
        journal = engine.config.journal
        events_api = EventsApi(
            self.coordinator,
            max_events=journal.max_events,
            max_bytes=journal.max_bytes,
            executor=engine.executor,
        )
        for api in (peer_api, events_api):
            if api.meta.name in client.api_registry.names():  # of a worker that this process was forked from
                client.api_registry.remove(api.meta.name)
            client.api_registry.add(api)
        node.on_joined = self._peer_joined

    def _make_publisher(self, binding: Binding) -> None:
        engine, apis = self.engine, self.client.api_registry
        shelf = engine.shelf
        receivers = Receivers(engine.max_message_size)
        coordinator = binding.coordinator = Coordinator(
            engine.identity, apis, shelf, binding.reply, receivers, member_timeout=engine.config.worker.member_timeout
        )
        publisher = binding.publisher = Publisher(
            engine.identity, apis, binding.publish, shelf, receivers, max_message_size=engine.max_message_size
        )
        publisher.when_handled = coordinator.when_handled
        publisher.on_subscription = coordinator.subscribed
        shelf.on_opened = partial(self._journal_opened, coordinator)
        self._left_behind = LeftBehind(
            shelf,
            coordinator,
            services=self._services_here,
            published=lambda: engine.snapshot.by_api,
            on_changed=self._kept_changed,
        )
        self._care = Care(shelf, coordinator, engine.config, engine.executor, self._left_behind.look)
        self.coordinator = coordinator
        self._open_journal()
        self.client.take_over(publisher)
        engine.wanted.update(self._published())  # others that publish the same tell which groups there are

    def _peer_joined(self, peer: Peer) -> None:
        """
        Learn from another publisher of our events which groups there are: what is fired here is owed to them.

        And from one of the events that we listen to whether they fit their listeners.
        """
        shared = self._published().intersection(peer.announcement.api_names or ())
        if shared and peer.instance != self.engine.identity.instance:
            for api in shared:
                self._learn(self._learn_groups(peer, api))
        if self._added:
            self._learn(self._fitting.check(self._added, [peer]))

    def _learn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._learning.add(task)
        task.add_done_callback(self._learning.discard)

    async def _ask_schema(self, peer: Peer, api: str) -> Any:
        return await self.client.call_rpc_remote(PeerApi.Meta.name, "schema", {"api": api}, {"peer": peer.instance})

    async def _learn_groups(self, peer: Peer, api: str) -> None:
        coordinator = self.coordinator
        assert coordinator is not None
        try:
            found = await self.client.call_rpc_remote(
                EventsApi.Meta.name, "groups", {"api": api}, {"peer": peer.instance}
            )
            is_near = peer.announcement.host == self.engine.identity.host
            for value in found:
                coordinator.merge(group_of_wire(value, is_near=is_near), is_near=is_near)
        except (LightbusException, TypeError, ValueError) as error:
            logger.debug("%s does not tell which groups it knows: %s", peer.announcement, error)

    def _services_here(self) -> set[str]:
        """Return the services of which a worker runs on this host."""
        me, peers = self.engine.identity, self.engine.snapshot.peers.values()
        others = (peer.announcement for peer in peers if peer.is_live and peer.instance != me.instance)
        return {me.service, *(each.service for each in others if each.host == me.host)}

    def _kept_changed(self) -> None:
        """Say that other APIs are kept here than before."""
        task = self.loop.create_task(self.api_registered())
        self._learning.add(task)
        task.add_done_callback(self._learning.discard)

    def _published(self) -> set[str]:
        return {api.meta.name for api in self.client.api_registry.all() if api.events}

    def _open_journal(self) -> None:
        """Open the journal where it will be needed: which groups there are is to be on disk before the first event."""
        events = [event for api in self.client.api_registry.all() for event in api.events.values()]
        if all(event.delivery == "best_effort" for event in events):
            return
        try:
            self.engine.shelf.own()
        except JournalError as error:
            logger.error("%s Until then no event can be fired here that is to be kept.", error)

    def _journal_opened(self, coordinator: Coordinator, journal: Journal) -> None:
        """Have a journal served that was opened just now, by any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            self.loop.call_soon_threadsafe(coordinator.journal_added, journal)

    def _announcement(self, endpoints: Endpoints) -> Announcement:
        engine, me = self.engine, self.engine.identity
        addresses = tuple(engine.config.network.advertise) or endpoints.addresses
        return Announcement(
            bus=me.bus,
            instance=me.instance,
            service=me.service,
            process=me.process,
            host=me.host,
            addresses=addresses if endpoints.rpc_port else (),
            rpc_port=endpoints.rpc_port,
            event_port=endpoints.event_port,
            directory=endpoints.directory,
            fingerprint=engine.transport.security.fingerprints[0],
            apis=self._api_infos(),
            max_message_size=engine.max_message_size,
        )

    def _api_infos(self) -> tuple[ApiInfo, ...]:
        serves = Feature.RPCS in self.features
        registered = self.client.api_registry.names()
        kept = {} if self._left_behind is None else self._left_behind.apis()
        return tuple(
            ApiInfo(name=api, events=events, keeps=True) for api, events in kept.items() if api not in registered
        ) + tuple(
            ApiInfo(
                name=api.meta.name,
                procedures=tuple(sorted(api.procedures)) if serves else (),
                events=tuple(sorted(api.events)),
                version=api.meta.version,
                internal=api.meta.internal,
                digest=self.client.schema.digest(api.meta.name),
                best_effort=tuple(sorted(n for n, event in api.events.items() if event.delivery == "best_effort")),
            )
            for api in self.client.api_registry.all()
            if not isinstance(api, (PeerApi, EventsApi))  # every worker has it: nobody looks for it by name
        )

    async def _start_listeners(self) -> None:
        if Feature.EVENTS in self.features:
            # All at once: each waits for its publishers' confirmation.
            await asyncio.gather(*(self.add_listener(listener) for listener in self.client.listeners))

    def _publishers_of(self, api: str) -> Sequence[Any]:
        return self.engine.snapshot.publishers(api)

    async def start_tasks(self) -> None:
        """Start the schedules and background tasks that were declared and do not run yet."""
        client = self.client
        if Feature.TASKS not in self.features or not self._runs_tasks:
            return
        for timetable in client.timetables:
            if all(each is not timetable for each in self._followed):
                self._followed.append(timetable)
                self._add_task(timetable.follow(self.run_user))
        for awaitable in client.take_background_tasks():
            task = self._add_task(self._background(awaitable))
            task.add_done_callback(partial(_close, awaitable))  # where it is cancelled before it has begun

    def _add_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(logger, logging.CRITICAL, error, "A schedule has ended, and its function is run no more")
            self.request_stop(1)

    async def _background(self, awaitable: Awaitable[Any]) -> None:
        execution = Execution(self.loop, self.engine.executor)
        try:
            await execution.apart(execution.finish(awaitable))
        except BaseException as error:
            if is_cancelled():
                raise
            text = "A background task failed; the worker stops, since it may be half a worker now"
            report(logger, logging.CRITICAL, error, text)
            self.request_stop(1)

    async def run_user(self, function: Callable[..., Any]) -> Any:
        """Run a function of the user's in a context and a task of its own."""
        execution = Execution(self.loop, self.engine.executor)
        return await execution.apart(execution.call(function, on_loop=runs_on_loop(function)))

    # Telling

    async def _hook(self, name: str) -> None:
        """Run a hook of our life. Raises what goes wrong in it, as an Exception."""
        if self.publishes_only:
            return
        try:
            await self.client.hooks.run(name, self._life.call, client=self.client)
            return
        except BaseException as error:
            if is_cancelled():
                raise
            failure = as_exception(f"The hook {name}", error)
        raise failure

    async def _last_hook(self, name: str) -> None:
        """Run a hook at our end, which comes whatever goes wrong in it."""
        try:
            await self._hook(name)
        except Exception as error:
            report(logger, logging.ERROR, error, "The hook %s failed; the worker leaves all the same", name)
            self.exit_code = max(self.exit_code, 1)

    def _on_fatal(self, listener: Listener, error: Exception) -> None:
        logger.error(
            "The worker stops, since the listener %s failed and its on_error is SHUTDOWN. "
            "Use on_error=OnError.STOP_LISTENER, RETRY or ACKNOWLEDGE_AND_LOG to go on.",
            listener.name,
        )
        self.request_stop(1)

    def _on_stopped(self, listener: Listener, error: str) -> None:
        logger.critical(
            "The listener %s has stopped, since its handler failed: %s. The worker goes on without it, and will exit "
            "with code 1. Its events go to the other processes of its group, or wait. Mend the handler, look at "
            "lightbus dead list, and start the worker again.",
            listener, error,
        )  # fmt: skip
        self.exit_code = max(self.exit_code, 1)

    def _log_start(self, node: Node) -> None:
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


def _close(awaitable: Awaitable[Any], task: asyncio.Task[None]) -> None:
    close_unused(awaitable)
