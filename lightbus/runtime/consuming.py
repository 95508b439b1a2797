"""The way of an event in: SUB -> (partition) -> listeners -> handler -> (ack).

A `Feed` is our subscription to one publisher; what arrives there is given to the listeners (`listening.py`). There is
no journal yet: a listener is given what is published from its marker on, as long as both sides are up.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..core.registry import Peer
from ..exceptions import LightbusTimeout, ProtocolError, did_you_mean
from ..io.transport import Transport
from ..message import EventMessage
from ..service.api import ApiRegistry
from ..service.hooks import HookRegistry
from ..typing import Kwargs
from ..wire import envelope
from ..wire.envelope import Events, Marker
from .listening import Listener, Listening

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Consumer", "Feed"]

logger = logging.getLogger("lightbus.consuming")

PORTION = 256
"""Events read before the listeners get their turn."""

PATIENCE = 0.01
"""Seconds for which reading waits for a listener to catch up."""


class Feed:
    """Our subscription to one publisher. Only touched from the node's loop."""

    def __init__(self, consumer: Consumer, transport: Transport, peer: Peer) -> None:
        self.peer = peer
        self.missed = 0
        """How often events were published for us and did not arrive."""
        self._consumer = consumer
        self._last: dict[bytes, int] = {}
        self._markers: dict[bytes, asyncio.Future[Marker]] = {}
        self._subscribed: set[bytes] = set()
        self._socket = transport.subscriber(
            peer.event_endpoint, self._on_frame, fingerprint=peer.announcement.fingerprint
        )

    def covers(self, prefixes: Iterable[bytes]) -> bool:
        """Return whether we are subscribed to all of these."""
        return self._subscribed.issuperset(prefixes)

    @property
    def is_live(self) -> bool:
        """Whether all that we subscribed to arrives."""
        return bool(self._subscribed) and not self._markers

    def subscribe(self, prefixes: Iterable[bytes]) -> asyncio.Future[Marker]:
        """Subscribe, and return the marker from which on everything arrives."""
        for prefix in prefixes:
            if prefix not in self._subscribed:
                self._subscribed.add(prefix)
                self._socket.subscribe(prefix)
        topic = envelope.marker_topic(os.urandom(16))
        future: asyncio.Future[Marker] = asyncio.get_running_loop().create_future()
        self._markers[topic] = future
        self._socket.subscribe(topic)
        return future

    def pause(self) -> None:
        """Read nothing for now."""
        self._socket.pause()

    def resume(self) -> None:
        """Go on reading."""
        self._socket.resume()

    def close(self) -> None:
        """Unsubscribe from everything."""
        self._socket.close()
        for future in self._markers.values():
            future.cancel()

    def _on_frame(self, frame: bytes) -> None:
        try:
            topic, message = envelope.decode_published(frame)
            if type(message) is Events:
                self._on_events(topic, message)
            elif type(message) is Marker:
                self._on_marker(topic, message)
        except (ProtocolError, ValueError, TypeError) as error:
            self._consumer.counts["unreadable"] += 1
            logger.warning("%s published something unreadable: %s", self.peer.announcement, error)

    def _on_marker(self, topic: bytes, marker: Marker) -> None:
        future = self._markers.pop(topic, None)
        if future is not None:
            self._socket.unsubscribe(topic)
            if not future.done():
                future.set_result(marker)

    def _on_events(self, topic: bytes, message: Events) -> None:
        api_bytes, event_bytes, _, _ = topic.split(b"\0")
        api, event = api_bytes.decode(), event_bytes.decode()
        listenings = self._consumer.listenings_of(api, event)
        self._consumer.given(len(message.records))
        journal, publisher, records = message
        last = self._last.get(topic)
        for sequence, previous, data in records:
            if last is not None and previous > last:
                self._missed(topic)
            last = sequence
            for listening in listenings:
                record = envelope.decode_record(data)  # to each its own: a handler may change what it is given
                listening.give(
                    EventMessage(
                        api_name=api,
                        event_name=event,
                        kwargs=record.kwargs,
                        version=record.version,
                        id=record.id,
                        native_id=f"{journal}-{sequence}",
                        published_at=record.published_at,
                        publisher=publisher,
                    )
                )
        if last is not None:
            self._last[topic] = last

    def _missed(self, topic: bytes) -> None:
        self.missed += 1
        self._consumer.counts["gaps"] += 1
        logger.warning(
            "Events of %s from %s were lost on the way: this process reads too slowly",
            topic.decode(errors="replace").replace("\0", " ").strip(),
            self.peer.announcement,
        )


class Consumer:
    """
    All listeners of this process, and the feeds they need. Only touched from the node's loop.

    Args:
        transport: makes the subscriptions.
        config, apis, hooks, client: as for the server.
        call_sync: runs a `def` function in a thread.
        on_fatal: called when a listener fails whose policy is to stop the worker.

    """

    def __init__(
        self,
        *,
        transport: Transport,
        config: Config,
        apis: ApiRegistry,
        hooks: HookRegistry,
        client: Any,
        call_sync: Callable[..., Any],
        on_fatal: Callable[[Listener, Exception], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.on_fatal = on_fatal
        self.call_sync = call_sync
        self.listenings: list[Listening] = []
        self._transport = transport
        self._config = config
        self._apis = apis
        self.hooks = hooks
        self.client = client
        self._feeds: dict[str, Feed] = {}
        self._by_event: dict[tuple[str, str], tuple[Listening, ...]] = {}
        self._warned_of: defaultdict[str, set[str]] = defaultdict(set)
        self._given = 0
        self._pause: asyncio.TimerHandle | None = None

    async def add(self, listener: Listener, peers: Iterable[Peer]) -> None:
        """
        Start a listener, and return when it is live at every publisher that is up now.

        A publisher that does not confirm within `event_listener_setup_timeout` is a warning: it goes on being tried.
        """
        self.listenings.append(Listening(self, listener))
        self._by_event.clear()
        for peer in peers:
            if peer.instance not in self._feeds:  # or each of many listeners would go through all of them
                self._open(peer)
        markers = [
            feed.subscribe(self._prefixes(listener))
            for feed in self._feeds.values()
            if listener.api in (feed.peer.announcement.api_names or ())
        ]
        await self._live(markers, self._config.api(listener.api).event_listener_setup_timeout, str(listener))

    def peer_is_up(self, peer: Peer) -> None:
        """Take in that a peer joined, or says something new of itself."""
        feed = self._feeds.get(peer.instance)
        if feed is not None and feed.peer.event_endpoint != peer.event_endpoint:
            self.peer_left(peer.instance)
        self._open(peer)

    def peer_left(self, instance: str) -> None:
        """Take in that a peer is no longer up."""
        if (feed := self._feeds.pop(instance, None)) is not None:
            feed.close()

    async def stop(self, seconds: float) -> None:
        """Take nothing more in, finish what is being handled, and close."""
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()
        self._resume()
        await asyncio.gather(*(listening.stop(seconds) for listening in self.listenings))

    def is_live_at(self, instance: str) -> bool:
        """Return whether all that the listeners want of a publisher arrives. From any thread (`lightbus.testing`)."""
        feed = self._feeds.get(instance)
        return feed is not None and feed.is_live

    def listenings_of(self, api: str, event: str) -> tuple[Listening, ...]:
        """Return who listens to an event."""
        found = self._by_event.get((api, event))
        if found is None:
            found = tuple(
                listening
                for listening in self.listenings
                if listening.listener.api == api and not {event, "*"}.isdisjoint(listening.listener.events)
            )
            self._by_event[api, event] = found
        return found

    # Reading no faster than the listeners handle

    def given(self, count: int) -> None:
        """
        Take in that so many events were read. After a portion, reading pauses until the listeners have caught up.

        Otherwise a flood would keep the loop busy with reading, and the queues would fill up. A listener that needs
        longer is not waited for: its queue takes what comes, up to its bound, and the others go on.
        """
        self._given += count
        if self._given >= PORTION and self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(PATIENCE, self._go_on_without_the_slow)
            for feed in self._feeds.values():
                feed.pause()

    def caught_up(self) -> None:
        """Take in that a listener has nothing left to do: go on reading when that is true of all that are not slow."""
        if self._pause is not None and not any(each.backlog and not each.is_slow for each in self.listenings):
            self._resume()

    def _go_on_without_the_slow(self) -> None:
        for listening in self.listenings:
            listening.is_slow = listening.backlog > 0
        self._resume()

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._given = 0
        for feed in self._feeds.values():
            feed.resume()

    def casts(self, api: str) -> bool:
        """Return whether handlers are given the types that they are annotated with."""
        return self._config.api(api).cast_values

    def incoming(self, message: EventMessage) -> Kwargs:
        """Return the arguments of an event, complete and checked. Raises ValidationError."""
        kwargs = message.kwargs
        api = self._apis.find(message.api_name)
        event = None if api is None else api.events.get(message.event_name)
        if event is not None:
            kwargs = message.kwargs = event.signature.fill_defaults(kwargs)
            if self._config.api(message.api_name).validation.incoming:
                event.signature.validate(kwargs)
        return kwargs

    def _open(self, peer: Peer) -> None:
        names = peer.announcement.api_names or ()
        listeners = [listening.listener for listening in self.listenings if listening.listener.api in names]
        if not listeners or not peer.event_endpoint:
            return
        feed = self._feeds.get(peer.instance)
        if feed is None:
            feed = self._feeds[peer.instance] = Feed(self, self._transport, peer)
        feed.peer = peer  # it may advertise more than it did
        for listener in listeners:
            self._warn_of_unknown(listener, peer)
        prefixes = [prefix for listener in listeners for prefix in self._prefixes(listener)]
        if not feed.covers(prefixes):
            feed.subscribe(prefixes).add_done_callback(_log_live(peer))

    def _warn_of_unknown(self, listener: Listener, peer: Peer) -> None:
        """Say so where a listener waits for an event that its API does not have: a typo would wait for ever."""
        info = next((api for api in peer.announcement.apis or () if api.name == listener.api), None)
        if info is None:
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

    def _prefixes(self, listener: Listener) -> list[bytes]:
        return [envelope.subscription(listener.api, event) for event in listener.events]

    async def _live(self, markers: list[asyncio.Future[Marker]], seconds: float, what: str) -> None:
        if not markers:
            return
        _, late = await asyncio.wait(markers, timeout=seconds)
        if late:
            error = LightbusTimeout(
                f"{len(late)} of {len(markers)} publishers did not confirm the subscription of {what} within "
                f"{seconds} s. It is set up as soon as they do; raise `event_listener_setup_timeout` if they are slow."
            )
            logger.warning("%s", error)


def _log_live(peer: Peer) -> Callable[[asyncio.Future[Marker]], None]:
    def log(future: asyncio.Future[Marker]) -> None:
        if not future.cancelled():
            head = future.result().head
            logger.info(
                "Events of %s arrive, from number %d on", peer.announcement, head + 1, extra={"live_at": peer.instance}
            )

    return log
