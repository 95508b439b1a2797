"""
All listeners of this process, and the publishers that they follow.

A `ListenerRunner` runs one listener, a `PublisherConnection` is our connection to one publisher, and a `Subscription`
connects one listener with one publisher.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

from ...config import Config
from ...core.registry import Peer
from ...exceptions import LightbusException, LightbusTimeout, did_you_mean
from ...listener import Listener
from ...membership.context import Identity
from ...membership.guard import Guard
from ...ports.transport import Transport
from ...recurring import RecurringLog
from ...service.api import ApiRegistry
from ...service.hooks import HookRegistry
from ..groups.group_records import GroupRecords
from .consumer_context import ConsumerContext
from .listener_context import ListenerContext
from .listener_runner import ListenerRunner
from .loss_reports import LossReports
from .publisher_connection import PublisherConnection
from .reading_pace import ReadingPace
from .subscription import Subscription

__all__ = ["Consumer"]

logger = logging.getLogger("lightbus.listeners")

TICK = 1.0

LEAVE_TIMEOUT = 1.0
"""Seconds that publishers have to confirm our last acknowledgements."""


class Consumer:
    """
    All listeners of this process, and their connections. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        transport: makes the connections.
        config, apis, hooks, client: as for the server.
        executor: runs `def` functions.
        on_fatal: called when a listener fails whose policy is to stop the worker.
        on_stopped: called with a listener that has stopped, and its error.

    Attributes:
        counts: gaps, unreadable, fetched, lost, refused_acks, standstills.
        guard: logs messages of publishers that could not be handled.
        runners: the running listeners.
        losses: reports lost events.

    """

    def __init__(
        self,
        *,
        identity: Identity,
        transport: Transport,
        config: Config,
        apis: ApiRegistry,
        hooks: HookRegistry,
        client: Any,
        executor: Executor | None,
        on_fatal: Callable[[Listener, Exception], None],
        on_stopped: Callable[[Listener, str], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.guard = Guard(logger)
        self.runners: list[ListenerRunner] = []
        self._connections: dict[str, PublisherConnection] = {}
        """The connections, by the publisher's instance."""
        self._unconnected: dict[str, Peer] = {}
        """By instance: the publishers that could not be connected to, which is tried again."""
        self._transport = transport
        self._config = config
        self._on_stopped = on_stopped
        self._pace = ReadingPace(self._connections, self.runners)
        self._listeners = ListenerContext(
            config=config, apis=apis, hooks=hooks, client=client, executor=executor,
            on_fatal=on_fatal, caught_up=self._pace.caught_up,
        )  # fmt: skip
        self.losses = LossReports(self._listeners, self.counts)
        self._records = GroupRecords()
        self._context = ConsumerContext(
            identity=identity, records=self._records, losses=self.losses,
            pace=self._pace, guard=self.guard, counts=self.counts,
        )  # fmt: skip
        self._failures = RecurringLog(logger)
        self._warned_of: defaultdict[str, set[str]] = defaultdict(set)
        self._loop = asyncio.get_running_loop()
        self._ticked_at = self._loop.time()
        self._timer = self._loop.call_later(TICK, self._tick)
        self._stopped = False
        self._leaving: set[asyncio.Task[None]] = set()

    async def add(self, listener: Listener, peers: Iterable[Peer]) -> None:
        """
        Start a listener, and return once it is live at every publisher that is up now.

        A publisher that does not confirm within `event_listener_setup_timeout`, or that cannot be connected to, is
        logged; the attempt goes on.
        """
        runner = ListenerRunner(self._listeners, listener, self._stop_listener)
        self.runners.append(runner)
        group = self._group_of(listener)
        self._records.joins(listener.api, group)
        for peer in peers:
            # Otherwise many listeners would each repeat this for all.
            if peer.instance not in self._connections and peer.instance not in self._unconnected:
                self._follow(peer)
        publishers = [
            connection
            for connection in self._connections.values()
            if listener.api in (connection.peer.announcement.api_names or ())
        ]
        for connection in publishers:
            self._warn_of_unknown(listener, connection.peer)
        subscriptions = [connection.subscribe(runner.queue, group) for connection in publishers]
        await self._live(subscriptions, self._config.api(listener.api).event_listener_setup_timeout, listener)

    async def remove(self, listener: Listener, seconds: float | None = None) -> None:
        """
        Stop a listener: finish its events in progress, within so long (None: no limit), and unsubscribe it everywhere.

        The connections to the publishers stay; see `close_unused`.
        """
        runner = self.runner_of(listener)
        if runner is None:
            return
        self.runners.remove(runner)
        self._pace.listener_removed()
        await runner.stop(seconds)
        self._unsubscribe(runner)

    def close_unused(self) -> None:
        """Close the connections to publishers at which no listener is subscribed."""
        for instance in [each for each, connection in self._connections.items() if not connection.subscriptions]:
            self.peer_left(instance)

    def runner_of(self, listener: Listener) -> ListenerRunner | None:
        """Return the runner of a listener, or None if it does not run."""
        return next((runner for runner in self.runners if runner.listener is listener), None)

    def peer_is_up(self, peer: Peer) -> None:
        """Record that a peer joined, or changed its announcement."""
        known = self._connections.get(peer.instance)
        if known is not None:
            if (known.peer.event_endpoint, known.peer.endpoint) != (peer.event_endpoint, peer.endpoint):
                self.peer_left(peer.instance)
            elif known.peer.announcement.digest != peer.announcement.digest:
                known.join()  # it may have new events, which "*" includes
        self._follow(peer)

    def peer_left(self, instance: str) -> None:
        """Record that a peer is no longer up."""
        self._unconnected.pop(instance, None)
        if (connection := self._connections.pop(instance, None)) is not None:
            connection.close()

    async def stop(self, seconds: float) -> None:
        """Accept no more events, finish and acknowledge those in progress, and leave the groups."""
        if self._stopped:
            return
        self._stopped = True
        self._timer.cancel()
        self._pace.close()
        self._report_dropped()
        await asyncio.gather(*(runner.stop(seconds) for runner in self.runners))
        await asyncio.gather(*self._leaving)
        await asyncio.gather(*(connection.leave(LEAVE_TIMEOUT) for connection in self._connections.values()))
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def is_live_at(self, instance: str) -> bool:
        """Return whether all listeners of a publisher's events are live there. Thread-safe (for `lightbus.testing`)."""
        connection = self._connections.get(instance)
        return connection is not None and connection.is_live

    def _group_of(self, listener: Listener) -> str:
        """Return the name of a listener's consumer group; empty if it has none."""
        return listener.group_of(self._context.identity.service)

    def _stop_listener(self, runner: ListenerRunner, reason: str) -> None:
        """Make a failed listener leave its groups, after its other events in progress are finished."""
        self._on_stopped(runner.listener, reason)
        task = self._loop.create_task(self._remove_after_leaving(runner))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _remove_after_leaving(self, runner: ListenerRunner) -> None:
        await runner.stop(None)
        self._unsubscribe(runner)

    def _unsubscribe(self, runner: ListenerRunner) -> None:
        for connection in self._connections.values():
            connection.unsubscribe(runner.queue)
        self._pace.caught_up()  # others need not wait for it any more

    def _report_dropped(self) -> None:
        for connection in self._connections.values():
            for queue, subscription in connection.subscriptions.items():
                waiting = sum(len(stream.ready) for stream in subscription.followed.live_streams)
                if waiting:
                    logger.warning(
                        "The listener %s stops: %d waiting events of best effort are dropped",
                        queue.listener, waiting,
                    )  # fmt: skip

    def _follow(self, peer: Peer) -> None:
        self._unconnected.pop(peer.instance, None)
        connection = self._connections.get(peer.instance)
        if connection is not None:
            connection.peer = peer  # its APIs may have changed, also some without a listener yet
        names = peer.announcement.api_names or ()
        runners = [each for each in self.runners if each.listener.api in names and each.stopped_by is None]
        if not runners or not peer.event_endpoint or self._stopped:
            return
        if connection is None and (connection := self._connect(peer)) is None:
            return
        for runner in runners:
            self._warn_of_unknown(runner.listener, peer)
            connection.subscribe(runner.queue, self._group_of(runner.listener))

    def _connect(self, peer: Peer) -> PublisherConnection | None:
        """Return a new connection to a publisher; None if there can be none now, which is logged and tried again."""
        try:
            connection = PublisherConnection(self._context, self._transport, peer)
        except (LightbusException, OSError) as error:  # no descriptor is left, or the announced address is invalid
            self._unconnected[peer.instance] = peer
            text = "No events of %s arrive for now: it cannot be connected to, which is tried again every %g s. %s"
            self._failures.log(("connect", peer.instance), logging.WARNING, text, peer.announcement, TICK, error)
            return None
        self._connections[peer.instance] = connection
        self._failures.recovered(("connect", peer.instance))
        return connection

    def _warn_of_unknown(self, listener: Listener, peer: Peer) -> None:
        """Log a listener for an event that the API does not have: after a typo it would wait for ever."""
        info = next((api for api in peer.announcement.apis or () if api.name == listener.api), None)
        if info is None or info.keeps:
            return
        for event in {*listener.events} - {*info.events, "*"} - self._warned_of[listener.name]:
            self._warned_of[listener.name].add(event)
            logger.warning(
                "The listener %s waits for %s.%s, and %s has no such event.%s Its events are: %s",
                listener.name,
                listener.api,
                event,
                peer.announcement,
                did_you_mean(event, info.events),
                ", ".join(info.events) or "none",
            )

    async def _live(self, subscriptions: list[Subscription], seconds: float, listener: Listener) -> None:
        waits = [each.live_at for each in subscriptions]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=seconds)
        if late:
            error = LightbusTimeout(
                f"{len(late)} of {len(waits)} publishers did not confirm the subscription of {listener} within "
                f"{seconds} s. It is set up as soon as they do; raise `event_listener_setup_timeout` if they are slow."
            )
            # One listener name may have a hundred APIs, whose publishers are all late on a busy machine.
            self._failures.log(("setup", listener.name), logging.WARNING, "%s", error, changes=False)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)
        now = self._loop.time()
        loop_stalled = now - self._ticked_at > self._config.worker.member_timeout
        self._ticked_at = now
        if loop_stalled:
            # Other members have our partitions by now, and get the waiting events; our acknowledgements are refused.
            self.counts["standstills"] += 1
            text = "The event loop was blocked for long; its waiting events are left to other members of the groups"
            self._failures.log("clock", logging.WARNING, text)
        unconnected, self._unconnected = self._unconnected, {}
        for peer in unconnected.values():
            self._follow(peer)
        for connection in list(self._connections.values()):
            if loop_stalled:
                connection.join_again()
            connection.tick()
