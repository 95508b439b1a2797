"""The way of an event in: all listeners of this process, and the publishers that they follow.

A `PublisherConnection` is our connection to one publisher, a `Subscription` one listener there, a `ListenerRunner` the
listener at work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from ..core.registry import Peer
from ..core.streams import LiveStream, Stream
from ..exceptions import LightbusTimeout, did_you_mean
from ..listener import Listener
from ..membership.context import Identity
from ..membership.guard import Guard
from ..ports.transport import Transport
from ..recurring import RecurringLog
from ..service.api import ApiRegistry
from ..service.execution import Execution
from ..service.failures import report
from ..service.hooks import HookRegistry
from ..typing import Kwargs
from ..wire.envelope import Assign
from .listener_queue import ListenerQueue
from .listener_runner import ListenerRunner
from .publisher_connection import PublisherConnection
from .subscription import Key, Subscription

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Consumer"]

logger = logging.getLogger("lightbus.consuming")

PORTION = 256
"""Events read before the listeners get their turn."""

PATIENCE = 0.01
"""Seconds for which reading waits for a listener to catch up."""

TICK = 1.0
REMOVED_AFTER = 5.0
"""Seconds by which a publisher must say that a group is younger than we said, to mean that it was removed meanwhile."""

LEAVE_TIMEOUT = 1.0
"""Seconds in which publishers confirm that what we handled is acknowledged."""

MAX_POSITIONS = 50_000
"""Topics of journals whose publisher is gone of which we remember how far we came; the oldest are forgotten."""


class Consumer:
    """
    All listeners of this process, and the feeds they need. Only touched from the node's loop.

    Args:
        identity: who we are.
        transport: makes the connections.
        config, apis, hooks, client: as for the server.
        executor: the threads in which `def` functions run.
        on_fatal: called when a listener fails whose policy is to stop the worker.
        on_stopped: called when a listener has stopped, and what it failed with.

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
        self.identity = identity
        self.counts: Counter[str] = Counter()
        """gaps, unreadable, fetched, lost, refused_acks, standstills."""
        self._failures = RecurringLog(logger)
        self.guard = Guard(logger)
        self.on_fatal = on_fatal
        self.executor = executor
        self.runners: list[ListenerRunner] = []
        self.hooks = hooks
        self.client = client
        self.max_message_size = config.network.max_message_size
        self._transport = transport
        self._config = config
        self._apis = apis
        self._feeds: dict[str, PublisherConnection] = {}
        self._warned_of: defaultdict[str, set[str]] = defaultdict(set)
        self._created_at: dict[tuple[str, str], float] = {}
        """Per (API, group) when it was created, as far as we know, by time.monotonic(): clocks may be put right."""
        self._positions: dict[tuple[str, str, Key], int] = {}
        """Up to where we handled topics that we do not follow at the moment: whoever serves them next is told."""
        self._given = 0
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._beat = self._loop.time()
        self._timer = self._loop.call_later(TICK, self._tick)
        self._stopped = False
        self._telling: set[asyncio.Task[None]] = set()
        self._on_stopped = on_stopped
        self._leaving: set[asyncio.Task[None]] = set()

    async def add(self, listener: Listener, peers: Iterable[Peer]) -> None:
        """
        Start a listener, and return when it is live at every publisher that is up now.

        A publisher that does not confirm within `event_listener_setup_timeout` is a warning: it goes on being tried.
        """
        runner = ListenerRunner(self, listener, self._stop_listener)
        self.runners.append(runner)
        group = self.group_of(listener)
        self._created_at.setdefault((listener.api, group), time.monotonic())
        for peer in peers:
            if peer.instance not in self._feeds:  # or each of many listeners would go through all of them
                self._follow(peer)
        claims = [
            feed.claim(runner.queue, group)
            for feed in self._feeds.values()
            if listener.api in (feed.peer.announcement.api_names or ())
        ]
        await self._live(claims, self._config.api(listener.api).event_listener_setup_timeout, str(listener))

    def group_of(self, listener: Listener) -> str:
        """Return the name of a listener's consumer group; empty where it shares with nobody."""
        return listener.group_of(self.identity.service)

    def peer_is_up(self, peer: Peer) -> None:
        """Record that a peer joined, or says something new of itself."""
        feed = self._feeds.get(peer.instance)
        if feed is not None and (feed.peer.event_endpoint, feed.peer.endpoint) != (peer.event_endpoint, peer.endpoint):
            self.peer_left(peer.instance)
        elif feed is not None and feed.peer.announcement.digest != peer.announcement.digest:
            for claim in feed.claims.values():
                claim.join()  # it may have events that "*" did not mean before
        self._follow(peer)

    def peer_left(self, instance: str) -> None:
        """Record that a peer is no longer up."""
        if (feed := self._feeds.pop(instance, None)) is not None:
            feed.close()

    async def stop(self, seconds: float) -> None:
        """Take nothing more in, finish what is being handled, acknowledge it, and leave the groups in order."""
        if self._stopped:
            return
        self._stopped = True
        self._timer.cancel()
        if self._pause is not None:
            self._pause.cancel()
        for feed in self._feeds.values():
            feed.pause()
        self._report_dropped()
        await asyncio.gather(*(runner.stop(seconds) for runner in self.runners))
        await asyncio.gather(*self._leaving)
        await asyncio.gather(*(feed.leave(LEAVE_TIMEOUT) for feed in self._feeds.values()))
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()

    def _stop_listener(self, runner: ListenerRunner) -> None:
        """Have a listener that has failed leave its groups, once what else it has at hand is finished."""
        assert runner.stopped_by is not None
        self._on_stopped(runner.listener, runner.stopped_by)
        task = self._loop.create_task(self._let_leave(runner))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _let_leave(self, runner: ListenerRunner) -> None:
        await runner.stop(None)
        for feed in self._feeds.values():
            feed.drop(runner.queue)
        self.caught_up()  # nobody has to wait for it any more

    def _report_dropped(self) -> None:
        for feed in self._feeds.values():
            for queue, claim in feed.claims.items():
                live = [stream for stream in claim.streams.values() if isinstance(stream, LiveStream)]
                waiting = sum(len(stream.ready) for stream in live)
                if waiting:
                    queue.counts["dropped"] += waiting
                    logger.warning(
                        "The listener %s stops: %d events of best effort that waited are dropped",
                        queue.listener, waiting,
                    )  # fmt: skip

    @property
    def _queues(self) -> Iterable[ListenerQueue]:
        return (runner.queue for runner in self.runners)

    def is_live_at(self, instance: str) -> bool:
        """Return whether all that the listeners want of a publisher arrives. From any thread (`lightbus.testing`)."""
        feed = self._feeds.get(instance)
        return feed is not None and feed.is_live

    # Reading no faster than the listeners handle

    def given(self, count: int) -> None:
        """
        Record that so many events were read. After a portion, reading pauses until the listeners have caught up.

        Otherwise a flood would keep the loop busy with reading, and the queues would fill up. A listener that needs
        longer is not waited for: what comes waits in the journal (of best effort: in its queue, up to its bound).
        """
        self._given += count
        if self._given >= PORTION and self._pause is None:
            self._pause = self._loop.call_later(PATIENCE, self._go_on_without_the_slow)
            for feed in self._feeds.values():
                feed.pause()

    def caught_up(self) -> None:
        """Record that a listener has nothing left to do: go on reading when that is true of all that are not slow."""
        if self._pause is not None and not any(
            queue.backlog and not queue.is_slow and not queue.waits for queue in self._queues
        ):
            self._resume()

    def _go_on_without_the_slow(self) -> None:
        for queue in self._queues:
            queue.is_slow = queue.backlog > 0
        self._resume()

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._given = 0
        if not self._stopped:
            for feed in self._feeds.values():
                feed.resume()

    # What claims ask

    def created_at(self, api: str, group: str) -> float:
        """Return when a group was created, as far as we know, in seconds since 1970 as our clock counts them now."""
        now = time.monotonic()
        return time.time() - (now - self._created_at.get((api, group), now))

    def learned(self, claim: Subscription, message: Assign) -> None:
        """Take in when a publisher says that a group was created."""
        name = (claim.api, claim.group)
        if claim.group and name in self._created_at:
            created_at = time.monotonic() - (message.clock - message.created_at)
            if created_at < self._created_at[name] or created_at > self._created_at[name] + REMOVED_AFTER:
                # Earlier: another member was there before us. So much later than we said: the group was removed.
                self._created_at[name] = created_at

    def positions_of(self, api: str, group: str) -> list[Any]:
        """Return up to where we handled the topics of a group that we do not follow at the moment."""
        return [[*key, at] for (a, g, key), at in self._positions.items() if (a, g) == (api, group)] if group else []

    def remember(self, claim: Subscription, stream: Stream) -> None:
        """Note up to where a topic was handled that we do not follow any more: it is not to be handled again."""
        if isinstance(stream, LiveStream):
            return
        if not claim.group:
            claim.queue.positions[stream.key] = max(stream.handled, claim.queue.positions.get(stream.key, 0))
            return
        name = (claim.api, claim.group, stream.key)
        self._positions[name] = max(stream.handled, self._positions.pop(name, 0))
        if len(self._positions) > MAX_POSITIONS:
            del self._positions[next(iter(self._positions))]
        for feed in self._feeds.values():
            other = feed.claims.get(claim.queue)
            if other is not None and other is not claim:
                other.was_handled(stream.key, stream.handled)

    def lost(self, claim: Subscription, stream: Stream, count: int) -> None:
        """Record that retention deleted events before this group could have them."""
        self.counts["lost"] += count
        logger.error(
            "%d events of %s.%s were deleted by the retention of %s before the group %s could have them. "
            "Raise journal.max_events or journal.max_bytes there, or have the group's processes run more often.",
            count, claim.api, stream.key[1], claim.feed.peer.announcement, claim.group,
        )  # fmt: skip
        if self.hooks.has("on_events_lost"):
            told = {"api_name": claim.api, "event_name": stream.key[1], "group": claim.group, "count": count}
            task = self._loop.create_task(self._tell_lost(told))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_lost(self, told: dict[str, Any]) -> None:
        execution = Execution(self._loop, self.executor)
        try:
            await self.hooks.run("on_events_lost", execution.call, client=self.client, **told)
        except BaseException as error:
            report(logger, logging.ERROR, error, "The hook on_events_lost failed")

    def casts(self, api: str) -> bool:
        """Return whether handlers are given the types that they are annotated with."""
        return self._config.api(api).cast_values

    def check_of(self, api: str, event: str) -> Callable[[Kwargs], Kwargs] | None:
        """Return what completes and checks the arguments of an event, and raises; None where nothing is to be done."""
        registered = self._apis.find(api)
        declared = None if registered is None else registered.events.get(event)
        if declared is None:
            return None
        signature, validates = declared.signature, self._config.api(api).validation.incoming

        def check(kwargs: Kwargs) -> Kwargs:
            kwargs = signature.fill_defaults(kwargs)
            if validates:
                signature.validate(kwargs)
            return kwargs

        return check

    # Inside

    def _follow(self, peer: Peer) -> None:
        feed = self._feeds.get(peer.instance)
        if feed is not None:
            feed.peer = peer  # it may advertise other APIs than it did, also such as nobody listens to yet
        names = peer.announcement.api_names or ()
        runners = [each for each in self.runners if each.listener.api in names and each.stopped_by is None]
        if not runners or not peer.event_endpoint or self._stopped:
            return
        if feed is None:
            feed = self._feeds[peer.instance] = PublisherConnection(self, self._transport, peer)
        for runner in runners:
            self._warn_of_unknown(runner.listener, peer)
            feed.claim(runner.queue, self.group_of(runner.listener))

    def _warn_of_unknown(self, listener: Listener, peer: Peer) -> None:
        """Say so where a listener waits for an event that its API does not have: a typo would wait for ever."""
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

    async def _live(self, claims: list[Subscription], seconds: float, what: str) -> None:
        waits = [claim.live_at for claim in claims]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=seconds)
        if late:
            error = LightbusTimeout(
                f"{len(late)} of {len(waits)} publishers did not confirm the subscription of {what} within "
                f"{seconds} s. It is set up as soon as they do; raise `event_listener_setup_timeout` if they are slow."
            )
            logger.warning("%s", error)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)
        now = self._loop.time()
        stood_still = now - self._beat > self._config.worker.member_timeout
        self._beat = now
        if stood_still:
            # Others have our partitions by now. What waits here is theirs; what we say of it would be refused.
            self.counts["standstills"] += 1
            text = "The event loop stood still for long; events that waited meanwhile are others' matter now"
            self._failures.say("clock", logging.WARNING, text)
        for feed in list(self._feeds.values()):
            for claim in list(feed.claims.values()) if stood_still else ():
                claim.join_again()
            feed.tick()
