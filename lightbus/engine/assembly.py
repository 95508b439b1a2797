"""Builds the parts of a worker in the order of their dependencies; each is complete after its constructor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .. import __about__
from ..adapters.sqlite.journal import Journal
from ..core.registry import Fact, PeerLeft
from ..events.backends.backend_answers import BackendAnswers
from ..events.backends.backend_listeners import BackendListeners, Backends
from ..events.backends.backend_publisher import BackendPublisher
from ..events.event_publisher import EventPublisher
from ..events.groups.coordinator import Coordinator
from ..events.groups.group_directory import GroupDirectory
from ..events.listening.consumer import Consumer
from ..events.publishing.journal_maintenance import JournalMaintenance
from ..events.publishing.orphaned_journals import OrphanedJournals
from ..events.publishing.publisher import Publisher
from ..listener import Listener
from ..rpc.server import Server
from ..service.api import Api, ApiRegistry
from ..service.hooks import HookRegistry
from ..wire.sizes import Receivers
from .advertising import announcement_of, api_infos
from .binding import Handlers, Outlet
from .engine import Engine
from .event_backends import RunningBackends
from .events_api import EventsApi
from .node import Node
from .peer_api import Described, Parts, PeerApi
from .peer_learning import PeerLearner
from .presence import Presence
from .schedule_election import ScheduleElection, SchedulesApi

__all__ = ["Served", "WorkerParts", "assemble", "published_apis"]


class Served(Described, Protocol):
    """The client whose APIs and listeners a worker serves."""

    hooks: HookRegistry
    hook_client: object
    """Passed to hooks as `client`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """The parts of a worker. Made on the node's loop; they last as long as the node."""

    presence: Presence
    server: Server
    publisher: Publisher
    coordinator: Coordinator
    outgoing: EventPublisher
    """Publishes the events that this process fires."""
    backends: RunningBackends | None
    """The event backends in use; None if all events are kept in the journals."""
    consumer: Consumer
    backend_listeners: BackendListeners | None
    learner: PeerLearner
    orphaned_journals: OrphanedJournals
    maintenance: JournalMaintenance | None
    """Maintains the journals; None if nothing is kept on disk."""
    election: ScheduleElection
    internal_apis: tuple[Api, ...]
    """The `internal.` APIs, which every peer can call."""
    end_watching_journals: Callable[[], None]

    def release(self) -> None:
        """Stop the parts that do not end with the node, after its loop has ended."""
        if self.maintenance is not None:
            self.maintenance.abandon()
        self.end_watching_journals()

    async def stop(self) -> None:
        """Stop the event backends, and the threads that use the journals."""
        if self.backends is not None:
            await self.backends.stop()
        if self.maintenance is not None:
            await self.maintenance.stop()
        self.end_watching_journals()


def assemble(
    client: Served,
    node: Node,
    *,
    serves_calls: bool,
    on_fatal: Callable[[Listener, Exception], None],
    on_stopped: Callable[[Listener, str], None],
    on_kept_changed: Callable[[], None],
    election: ScheduleElection,
) -> WorkerParts:
    """
    Add a worker's parts to a node, on its loop, without announcing it. Raises TransportError, or InvalidConfiguration.

    Args:
        client, node: the client whose APIs and listeners are served, and the node that serves them.
        serves_calls: whether calls are executed.
        on_fatal, on_stopped: called when a listener fails whose policy is to stop the worker; when one has stopped.
        on_kept_changed, election: called when the APIs kept for other services change; elects who runs a schedule.

    """
    engine, apis = client.engine, client.api_registry
    backends = RunningBackends(engine.event_backends, engine.identity) if engine.event_backends.is_used else None
    presence = _presence(client, node, backends, serves_calls=serves_calls)
    handlers = presence.binding.handlers
    groups = handlers.coordinator.directory
    learner = PeerLearner(engine, groups, client.schema, lambda: published_apis(apis))
    consumer = _consumer(client, on_fatal, on_stopped)
    _watch_peers(node, learner, consumer, election)
    orphaned_journals = _orphaned_journals(engine, node, groups, on_kept_changed)
    return WorkerParts(
        presence=presence,
        server=handlers.server,
        publisher=handlers.publisher,
        coordinator=handlers.coordinator,
        outgoing=handlers.outgoing,
        backends=backends,
        consumer=consumer,
        backend_listeners=None if backends is None else BackendListeners(engine.identity, backends, consumer),
        learner=learner,
        orphaned_journals=orphaned_journals,
        maintenance=_maintenance(engine, groups, orphaned_journals),
        election=election,
        internal_apis=_internal_apis(client, presence, consumer, backends, election),
        end_watching_journals=_watch_journals(engine, groups),
    )


def published_apis(registry: ApiRegistry) -> set[str]:
    """Return the APIs that have events."""
    return {api.meta.name for api in registry.all() if api.events}


def _presence(client: Served, node: Node, backends: Backends | None, *, serves_calls: bool) -> Presence:
    infos = api_infos(client.api_registry, client.schema, serves_calls=serves_calls, kept={})
    return node.bind(
        lambda endpoints: announcement_of(client.engine, infos, endpoints),
        lambda outlet: _handlers(client, outlet, backends, serves_calls=serves_calls),
    )


def _handlers(client: Served, outlet: Outlet, backends: Backends | None, *, serves_calls: bool) -> Handlers:
    engine, apis = client.engine, client.api_registry
    receivers = Receivers(engine.max_message_size)
    coordinator = Coordinator(
        engine.identity,
        apis,
        engine.journals,
        outlet.reply,
        outlet.handle,
        receivers,
        member_timeout=engine.config.worker.member_timeout,
    )
    publisher = Publisher(
        engine.identity,
        apis,
        outlet.publish,
        engine.journals,
        receivers,
        when_handled=coordinator.when_handled,
        on_subscription=coordinator.subscribed,
        validates=lambda api: engine.config.api(api).validation.incoming,
        max_message_size=engine.max_message_size,
    )
    server = Server(
        identity=engine.identity,
        config=engine.config,
        apis=apis,
        hooks=client.hooks,
        client=client.hook_client,
        executor=engine.executor,
        reply=outlet.reply,
        reply_from_thread=outlet.reply_from_thread,
        serves_calls=serves_calls,
        service_of=outlet.engines.service_of,
        max_message_size_of=outlet.engines.max_message_size_of,
    )
    outgoing: EventPublisher = publisher
    if backends is not None:
        outgoing = BackendPublisher(publisher, backends, apis, outbox=engine.outbox, executor=lambda: engine.executor)
    return Handlers(server=server, publisher=publisher, coordinator=coordinator, outgoing=outgoing)


def _consumer(
    client: Served, on_fatal: Callable[[Listener, Exception], None], on_stopped: Callable[[Listener, str], None]
) -> Consumer:
    engine = client.engine
    return Consumer(
        identity=engine.identity,
        transport=engine.transport,
        config=engine.config,
        apis=client.api_registry,
        hooks=client.hooks,
        client=client.hook_client,
        executor=engine.executor,
        on_fatal=on_fatal,
        on_stopped=on_stopped,
    )


def _orphaned_journals(
    engine: Engine, node: Node, groups: GroupDirectory, on_changed: Callable[[], None]
) -> OrphanedJournals:
    orphaned_journals = OrphanedJournals(
        engine.journals,
        groups,
        engine.outbox,
        services=lambda: _services_here(engine),
        published=lambda: engine.snapshot.by_api,
        on_changed=on_changed,
    )
    _watch_for_restarts(node, orphaned_journals, engine.identity.host)
    return orphaned_journals


def _maintenance(
    engine: Engine, groups: GroupDirectory, orphaned_journals: OrphanedJournals
) -> JournalMaintenance | None:
    if not engine.uses_disk:
        return None
    return JournalMaintenance(engine.journals, groups, engine.config, engine.executor, orphaned_journals.look)


def _internal_apis(
    client: Served, presence: Presence, consumer: Consumer, backends: RunningBackends | None, election: ScheduleElection
) -> tuple[Api, ...]:
    engine, handlers = client.engine, presence.binding.handlers
    outgoing = handlers.outgoing
    parts = Parts(
        binding=presence.binding,
        server=handlers.server,
        publisher=handlers.publisher,
        consumer=consumer,
        election=election,
        why_not_kept=lambda: engine.journals.problem,
        put_by=lambda: outgoing.put_by,
    )
    journal = engine.config.journal
    elsewhere = None
    if backends is not None:
        elsewhere = BackendAnswers(
            backends,
            is_ours=lambda api: _is_first(engine, api),
            apis=lambda: published_apis(client.api_registry),
        )
    events_api = EventsApi(
        handlers.coordinator,
        elsewhere=elsewhere,
        max_events=journal.max_events,
        max_bytes=journal.max_bytes,
        executor=engine.executor,
    )
    return PeerApi(client, parts, version=__about__.version()), events_api, SchedulesApi(election)


def _is_first(engine: Engine, api: str) -> bool:
    """Return whether this process has the lowest instance id among the publishers of an API that are up."""
    return engine.identity.instance <= min(peer.instance for peer in engine.snapshot.publishers(api))


def _watch_peers(node: Node, learner: PeerLearner, consumer: Consumer, election: ScheduleElection) -> None:
    def notify_consumer(facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, PeerLeft):
                consumer.peer_left(fact.peer.instance)
            else:
                consumer.peer_is_up(fact.peer)

    node.changes.observe(learner.observe)
    node.changes.observe(notify_consumer)
    node.changes.observe(lambda facts: election.wake())


def _watch_for_restarts(node: Node, orphaned_journals: OrphanedJournals, host: str) -> None:
    """Leave the journals of a process of this host that is gone to the one that may take its place."""

    def observe(facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, PeerLeft) and fact.peer.announcement.host == host:
                orphaned_journals.process_left(fact.peer.announcement.service)

    node.changes.observe(observe)


def _watch_journals(engine: Engine, groups: GroupDirectory) -> Callable[[], None]:
    """Serve our own journal once any thread has opened it; return the function that ends this."""
    loop = asyncio.get_running_loop()

    def opened(journal: Journal) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            loop.call_soon_threadsafe(groups.journal_added, journal)

    return engine.journals.observe(opened)


def _services_here(engine: Engine) -> set[str]:
    """Return the services that have a worker on this host."""
    me, peers = engine.identity, engine.snapshot.peers.values()
    others = (peer.announcement for peer in peers if peer.is_live and peer.instance != me.instance)
    return {me.service, *(each.service for each in others if each.host == me.host)}
