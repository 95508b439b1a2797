"""The way of an event in: SUB -> (partition) -> listeners -> handler -> (ack).

A `Feed` is one subscription to one publisher, a `Listening` is one listener with its queue. There is no journal yet:
a listener is given what is published from its marker on, as long as both sides are up.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..core.registry import Peer
from ..exceptions import LightbusTimeout, ProtocolError
from ..io.transport import Transport
from ..message import EventMessage
from ..service.api import ApiRegistry
from ..service.hooks import HookRegistry
from ..service.parameters import Parameter, of_function
from ..service.signature import Signature
from ..wire import envelope
from ..wire.envelope import Events, Marker, Record

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["Consumer", "Feed", "Listener", "Listening", "OnError"]

logger = logging.getLogger("lightbus.consuming")

MAX_QUEUED = 10_000
"""Events that wait for one slow listener before further ones are dropped, counted and reported."""

FAIR_SHARE = 64
"""Events handled without pause before the rest of the loop gets its turn."""

MAX_DELIVERIES = 5
FIRST_BACKOFF = 1.0


class OnError(Enum):
    """What happens when a listener's handler raises."""

    SHUTDOWN = "shutdown"
    """Stop the worker (upstream's default): a human has to look."""
    ACKNOWLEDGE_AND_LOG = "acknowledge_and_log"
    """Log it, and go on with the next event."""
    RETRY = "retry"
    """Try the event again after a pause that doubles, up to five times in all; then log it and go on."""


def accepts_message(function: Callable[..., Any]) -> str | None:
    """Return the name of the first positional parameter, where the EventMessage goes; None where there is none."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            return parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            return "*" + parameter.name
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    A function that is called for events.

    Attributes:
        api, events: what it listens to; the event `"*"` means all of the API.
        name: with the service's name it is the consumer group.
        function: `def` or `async def`; is given the EventMessage first (unless its first parameter has the name of
            an argument), and the arguments by name.
        on_error: what happens when it raises.

    """

    api: str
    events: tuple[str, ...]
    name: str
    function: Callable[..., Any]
    on_error: OnError = OnError.SHUTDOWN

    @property
    def is_async(self) -> bool:
        """Whether it is run on the loop and not in a thread."""
        function = self.function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
        )

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(f'{self.api}.{event}' for event in self.events)}"


def _signatures(listener: Listener) -> tuple[Signature, Signature]:
    """Return what the handler takes besides the message, and what it takes where it is not given the message."""
    parameters, _ = of_function(listener.function, label=listener.name, namespace={})

    def signature(taken: Iterable[Parameter]) -> Signature:
        return Signature(kind="Event", api_name=listener.api, name=listener.name, parameters=taken)

    first = accepts_message(listener.function)
    return signature(p for p in parameters if p.name != first), signature(parameters)


class Listening:
    """A listener at work: one event at a time, in order. Only touched from the node's loop."""

    def __init__(self, consumer: Consumer, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()
        """handled, failed, retried, dropped."""
        self._consumer = consumer
        self._queue: deque[tuple[EventMessage, Record]] = deque()
        self._wake = asyncio.Event()
        self._first = accepts_message(listener.function)
        parameters = inspect.signature(listener.function).parameters.values()
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._names = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        self._with_message, self._without_message = _signatures(listener)
        self._is_async = listener.is_async
        self._task = asyncio.get_running_loop().create_task(self._work())

    def give(self, message: EventMessage, record: Record) -> None:
        """Queue an event."""
        if len(self._queue) >= MAX_QUEUED:
            self.counts["dropped"] += 1
            if self.counts["dropped"] in (1, 10, 100) or self.counts["dropped"] % 1000 == 0:
                logger.warning(
                    "The listener %s is too slow: %d events wait, %d were dropped",
                    self.listener,
                    len(self._queue),
                    self.counts["dropped"],
                )
            return
        self._queue.append((message, record))
        self._wake.set()

    async def stop(self, seconds: float) -> None:
        """Finish the event being handled, at most so long, and stop."""
        self._queue.clear()
        self._stopping = True
        self._wake.set()
        done, _ = await asyncio.wait([self._task], timeout=seconds)
        if not done:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    _stopping = False

    async def _work(self) -> None:
        handled = 0
        while not self._stopping:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            message, record = self._queue.popleft()
            await self._handle(message, record)
            handled += 1
            if handled % FAIR_SHARE == 0:
                await asyncio.sleep(0)

    async def _handle(self, message: EventMessage, record: Record) -> None:
        backoff = FIRST_BACKOFF
        while True:
            try:
                await self._execute(message, record)
                self.counts["handled"] += 1
                return
            except Exception as error:
                self.counts["failed"] += 1
                if not await self._again(message, error, backoff):
                    return
                backoff *= 2
                message.deliveries += 1

    async def _again(self, message: EventMessage, error: Exception, backoff: float) -> bool:
        policy = self.listener.on_error
        logger.error("The listener %s failed on %r", self.listener.name, message, exc_info=error)
        if policy is OnError.RETRY and message.deliveries < MAX_DELIVERIES and not self._stopping:
            self.counts["retried"] += 1
            await asyncio.sleep(backoff)
            return True
        if policy is OnError.SHUTDOWN:
            self._consumer.on_fatal(self.listener, error)
        return False

    async def _execute(self, message: EventMessage, record: Record) -> None:
        consumer = self._consumer
        kwargs = consumer.incoming(message, record.kwargs)
        takes_message = self._first is not None and self._first not in kwargs
        if not self._takes_all:
            kwargs = {name: value for name, value in kwargs.items() if name in self._names}
        if consumer.casts(message.api_name):
            kwargs = (self._with_message if takes_message else self._without_message).cast(kwargs)
        await consumer.hook("before_event_execution", message, self.listener)
        args = (message,) if takes_message else ()
        if self._is_async:
            await self.listener.function(*args, **kwargs)
        else:
            await consumer.call_sync(self.listener.function, *args, **kwargs)
        await consumer.hook("after_event_execution", message, self.listener)


class Feed:
    """Our subscription to one publisher. Only touched from the node's loop."""

    def __init__(self, consumer: Consumer, transport: Transport, peer: Peer) -> None:
        self.peer = peer
        self.missed = 0
        """Events that were published for us and did not arrive."""
        self._consumer = consumer
        self._last: dict[bytes, int] = {}
        self._markers: dict[bytes, asyncio.Future[Marker]] = {}
        self._subscribed: set[bytes] = set()
        self._socket = transport.subscriber(
            peer.event_endpoint, self._on_frame, fingerprint=peer.announcement.fingerprint
        )

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
        api, event, _, _ = topic.split(b"\0")
        listenings = self._consumer.listenings_of(api.decode(), event.decode())
        expected = self._last.get(topic)
        for sequence, previous, data in message.records:
            if expected is not None and previous > expected:
                self._missed(topic)
            expected = sequence
            record = envelope.decode_record(data)
            for listening in listenings:
                listening.give(self._message(api.decode(), event.decode(), message, sequence, record), record)
        if expected is not None:
            self._last[topic] = expected

    def _missed(self, topic: bytes) -> None:
        self.missed += 1
        self._consumer.counts["gaps"] += 1
        logger.warning(
            "Events of %s from %s were lost on the way: this process reads too slowly",
            topic.decode(errors="replace").replace("\0", " ").strip(),
            self.peer.announcement,
        )

    def _message(self, api: str, event: str, events: Events, sequence: int, record: Record) -> EventMessage:
        return EventMessage(
            api_name=api,
            event_name=event,
            kwargs=record.kwargs,
            version=record.version,
            id=record.id,
            native_id=f"{events.journal}-{sequence}",
            published_at=record.published_at,
            publisher=events.publisher,
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
        self._hooks = hooks
        self._client = client
        self._feeds: dict[str, Feed] = {}
        self._by_event: dict[tuple[str, str], tuple[Listening, ...]] = {}

    async def add(self, listener: Listener, peers: Iterable[Peer]) -> None:
        """
        Start a listener, and return when it is live at every publisher that is up now.

        A publisher that does not confirm within `event_listener_setup_timeout` is a warning: it goes on being tried.
        """
        self.listenings.append(Listening(self, listener))
        self._by_event.clear()
        for peer in peers:
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
        await asyncio.gather(*(listening.stop(seconds) for listening in self.listenings))

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

    def casts(self, api: str) -> bool:
        """Return whether handlers are given the types that they are annotated with."""
        return self._config.api(api).cast_values

    def incoming(self, message: EventMessage, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of an event, complete and checked. Raises ValidationError."""
        settings = self._config.api(message.api_name)
        if message.api_name in self._apis.names():
            event = self._apis.get(message.api_name).events.get(message.event_name)
            if event is not None:
                kwargs = event.signature.fill_defaults(kwargs)
                if settings.validation.incoming:
                    event.signature.validate(kwargs)
        return kwargs

    async def hook(self, name: str, message: EventMessage, listener: Listener) -> None:
        """Run the hooks around the execution of a listener."""
        if self._hooks.has(name):
            await self._hooks.run(
                name,
                call_sync=self.call_sync,
                client=self._client,
                event_message=message,
                listener_name=listener.name,
            )

    def _open(self, peer: Peer) -> None:
        names = peer.announcement.api_names or ()
        listeners = [listening.listener for listening in self.listenings if listening.listener.api in names]
        if not listeners or peer.instance in self._feeds or not peer.event_endpoint:
            return
        feed = self._feeds[peer.instance] = Feed(self, self._transport, peer)
        prefixes = [prefix for listener in listeners for prefix in self._prefixes(listener)]
        feed.subscribe(prefixes).add_done_callback(_log_live(peer))

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
            logger.debug("Live at %s from sequence %d on", peer.announcement, future.result().head + 1)

    return log
