"""Publishers and consumers in one loop, with real journals and coordinators, and no socket between them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightbus.adapters.sqlite.journal import Journal
from lightbus.config import Config
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.events.groups.coordinator import Coordinator
from lightbus.events.groups.replies import error_for
from lightbus.events.listening.consumer import Consumer
from lightbus.events.publishing.publisher import Publisher
from lightbus.exceptions import LightbusException
from lightbus.listener import Listener
from lightbus.membership.context import Identity
from lightbus.membership.guard import Guard
from lightbus.message import EventMessage
from lightbus.service.api import Api, ApiRegistry
from lightbus.service.hooks import HookRegistry
from lightbus.wire import envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import AnyMessage, Fire, Kind
from lightbus.wire.sizes import Receivers

from .losing import Losing, kind_of_published

__all__ = ["Connects", "Hub", "JournalSet", "Listens", "Publishes"]


class JournalSet:
    """The journals of a publisher: files in a directory, without locks."""

    def __init__(self, directory: Path, journal: str = "0000000000000001") -> None:
        self._file = directory / f"{journal}.sqlite"
        self._own: Journal | None = None
        self.adopted: list[Journal] = []

    def own(self) -> Journal:
        """Return its own journal, made at first use."""
        if self._own is None:
            self._own = Journal(self._file)
        return self._own

    def all(self) -> list[Journal]:
        """Return all open ones, its own first."""
        return [*([] if self._own is None else [self._own]), *self.adopted]

    def others(self) -> list[Journal]:
        """Return none: all are of our own service."""
        return []

    def get(self, journal: str) -> Journal | None:
        """Return the journal with this name."""
        return next((each for each in self.all() if each.id == journal), None)

    def close(self) -> None:
        """Close them."""
        for journal in self.all():
            journal.close()
        self._own, self.adopted = None, []


class Publishes:
    """
    A process that publishes the events of its Apis, and coordinates their groups.

    Attributes:
        loses: frames that are lost on their way to subscribers: a predicate of the frame.
        is_deaf: whether it receives nothing.

    """

    def __init__(
        self,
        hub: Hub,
        instance: str,
        directory: Path,
        *apis: Api,
        member_timeout: float = 10.0,
        journal: str = "0000000000000001",
        max_message_size: int = 2**26,
    ) -> None:
        self.instance = instance
        self.identity = Identity(bus="b", service="pub", process="p", instance=instance, host="h")
        self.apis = ApiRegistry()
        for api in apis:
            self.apis.add(api)
        directory.mkdir(exist_ok=True)
        self.journals = JournalSet(directory, journal)
        self.journals.own()
        self.loses: Callable[[bytes], bool] = lambda frame: False
        self.is_deaf = False
        self.guard = Guard(logging.getLogger("lightbus.groups"))
        self.said: list[AnyMessage] = []
        """Everything that consumers have said to it."""
        self._hub = hub
        self._subs: list[_Sub] = []
        self._dealers: dict[bytes, _Dealer] = {}
        receivers = Receivers(max_message_size)
        self.coordinator = Coordinator(
            self.identity, self.apis, self.journals, self._reply, self.handle, receivers, member_timeout=member_timeout
        )
        self.publisher = Publisher(
            self.identity, self.apis, self._publish, self.journals, receivers,
            when_handled=self.coordinator.when_handled, on_subscription=self.coordinator.subscribed,
            max_message_size=max_message_size,
        )  # fmt: skip

    @property
    def peer(self) -> Peer:
        """The publisher as others see it."""
        names = tuple(self.apis.names())
        announcement = Announcement(
            bus="b", instance=self.instance, service="pub", process="p", host="h", api_names=names
        )
        return Peer(
            announcement=announcement,
            state=PeerState.UP,
            source=Source.SEED,
            changed_at=0.0,
            endpoint=f"mem://{self.instance}.rpc",
            event_endpoint=f"mem://{self.instance}.pub",
        )

    async def fire(
        self, event: str, *, api: str = "auth", id: str = "", at: float = 1.5, **kwargs: Any
    ) -> EventMessage:
        """Fire an event."""
        declared = self.apis.get(api).get_event(event)
        message = EventMessage(
            api_name=api, event_name=event, kwargs=kwargs, id=id or f"id-{kwargs.get('n', 0)}", published_at=at
        )
        await self.publisher.publish_async(message, declared)
        return message

    def hand_off(self, fire: Fire) -> list[AnyMessage]:
        """Let an event be handed off; return the list for the answer."""
        answers: list[AnyMessage] = []
        self.publisher.hand_off(fire, answers.append)
        return answers

    def adopt(self, directory: Path, journal: str) -> None:
        """Serve a journal whose process has ended."""
        adopted = Journal(directory / f"{journal}.sqlite")
        self.journals.adopted.append(adopted)
        self.coordinator.directory.journal_added(adopted)

    def tick(self) -> None:
        """Do the work of every second."""
        now = time.monotonic()
        self.publisher.tick(now)
        self.coordinator.tick(now)

    def close(self) -> None:
        """End without notice: all connections break."""
        self._hub.publishers.pop(self.instance, None)
        self._subs.clear()
        self._dealers.clear()
        self.journals.close()

    def _publish(self, frame: bytes) -> None:
        if not self.loses(frame) and not self._hub.losing(kind_of_published(frame)):
            for sub in self._subs:
                sub.arrive(frame)

    def _reply(self, routing_id: bytes, frame: bytes) -> bool:
        dealer = self._dealers.get(routing_id)
        if dealer is not None and not self._hub.losing(Kind(frame[0])):
            asyncio.get_running_loop().call_soon(dealer.arrive, frame)
        return dealer is not None

    def hear(self, routing_id: bytes, frame: bytes) -> None:
        """Receive a message of a consumer."""
        if not self.is_deaf and self.instance in self._hub.publishers:
            call_id, message = envelope.decode(frame)
            self.said.append(message)
            self.handle(routing_id, call_id, message)

    def handle(self, routing_id: bytes, call_id: int, message: AnyMessage) -> None:
        """Answer a request of a consumer, as a worker's binding does."""
        try:
            self.coordinator.handlers[type(message)](routing_id, call_id, message)
        except Exception as error:
            if not isinstance(error, LightbusException):
                self.guard.failed(self.coordinator.describe(routing_id), message, error)
            if call_id:
                self._reply(routing_id, envelope.encode(error_for(message, error), call_id))

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        """Receive a subscription."""
        if self.instance in self._hub.publishers:
            self.publisher.subscribed(topic, subscribed)


class _Sub:
    """A subscription to a publisher."""

    def __init__(self, publisher: Publishes | None, on_message: Callable[[bytes], None]) -> None:
        self.prefixes: list[bytes] = []
        self.paused = self.closed = False
        self._publisher, self._on_message = publisher, on_message
        self._waiting: list[bytes] = []
        if publisher is not None:
            publisher._subs.append(self)

    def subscribe(self, prefix: bytes) -> None:
        self.prefixes.append(prefix)
        if self._publisher is not None:
            asyncio.get_running_loop().call_soon(self._publisher.subscribed, prefix, True)

    def unsubscribe(self, prefix: bytes) -> None:
        self.prefixes.remove(prefix)
        if self._publisher is not None:
            asyncio.get_running_loop().call_soon(self._publisher.subscribed, prefix, False)

    def arrive(self, frame: bytes) -> None:
        if any(frame.startswith(prefix) for prefix in self.prefixes):
            if self.paused:
                self._waiting.append(frame)
            else:
                asyncio.get_running_loop().call_soon(self._read, frame)

    def _read(self, frame: bytes) -> None:
        if not self.closed:
            self._on_message(frame)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            self.arrive(frame)

    def close(self) -> None:
        self.closed = True
        if self._publisher is not None and self in self._publisher._subs:
            self._publisher._subs.remove(self)
            for prefix in self.prefixes:
                self._publisher.subscribed(prefix, False)


class _Dealer:
    """A connection to a publisher's ROUTER."""

    def __init__(self, publisher: Publishes | None, on_message: Callable[[bytes], None], routing_id: bytes) -> None:
        self.closed = False
        self._publisher, self._on_message, self._routing_id = publisher, on_message, routing_id
        if publisher is not None:
            publisher._dealers[routing_id] = self

    def send(self, frame: bytes) -> bool:
        if self._publisher is not None and not self._publisher._hub.losing(Kind(frame[0])):
            asyncio.get_running_loop().call_soon(self._publisher.hear, self._routing_id, frame)
        return True

    def arrive(self, frame: bytes) -> None:
        if not self.closed:
            self._on_message(frame)

    def flush_and_close(self, milliseconds: int) -> None:
        self.closed = True


class Hub:
    """The network of one test: publishers by instance, and the connections of consumers."""

    def __init__(self) -> None:
        self.publishers: dict[str, Publishes] = {}
        self.subs: list[_Sub] = []
        self.losing = Losing()
        """Which frames get lost, in either direction."""
        self.broken_off: list[int] = []
        """Sizes of the messages that were larger than who connected takes: libzmq would end its connection."""
        self._connections = 0

    def publish(self, instance: str, directory: Path, *apis: Api, **options: Any) -> Publishes:
        """Start a publisher."""
        made = self.publishers[instance] = Publishes(self, instance, directory, *apis, **options)
        return made

    def connect_sub(self, endpoint: str, on_message: Callable[[bytes], None]) -> _Sub:
        """Connect to a publisher's events."""
        self.subs.append(made := _Sub(self._at(endpoint), on_message))
        return made

    def connect_dealer(self, endpoint: str, on_message: Callable[[bytes], None]) -> _Dealer:
        """Connect to a publisher's ROUTER."""
        self._connections += 1
        return _Dealer(self._at(endpoint), on_message, self._connections.to_bytes(4, "big"))

    def _at(self, endpoint: str) -> Publishes | None:
        return self.publishers.get(endpoint.removeprefix("mem://").partition(".")[0])


class Connects:
    """The transport of a process; it accepts messages up to a size."""

    def __init__(self, hub: Hub, max_message_size: int) -> None:
        self.max_message_size = max_message_size
        self._hub = hub

    def subscriber(self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str) -> _Sub:
        """Connect to a publisher's events."""
        return self._hub.connect_sub(endpoint, self._within(on_message))

    def dealer(self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str) -> _Dealer:
        """Connect to a publisher's ROUTER."""
        return self._hub.connect_dealer(endpoint, self._within(on_message))

    def _within(self, on_message: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def on(frame: bytes) -> None:
            if len(frame) > self.max_message_size:
                self._hub.broken_off.append(len(frame))
            else:
                on_message(frame)

        return on


class Listens:
    """A process that listens. The events of its handlers are in `seen`, by listener."""

    def __init__(
        self,
        hub: Hub,
        instance: str,
        *apis: Api,
        service: str = "shop",
        max_message_size: int = 2**26,
        **settings: Any,
    ) -> None:
        self.seen: dict[str, list[EventMessage]] = {}
        self.fatal: list[Exception] = []
        self.stopped: list[str] = []
        self.hooks = HookRegistry()
        registry = ApiRegistry()
        for api in apis:
            registry.add(api)
        transport: Any = Connects(hub, max_message_size)
        self._hub = hub
        self.consumer = Consumer(
            identity=Identity(bus="b", service=service, process="p", instance=instance, host="h"),
            transport=transport,
            config=Config.model_validate(
                {
                    "apis": {"default": {"event_listener_setup_timeout": 0.2, **settings}},
                    "network": {"max_message_size": max_message_size},
                }
            ),
            apis=registry,
            hooks=self.hooks,
            client="the client",
            executor=None,
            on_fatal=lambda listener, error: self.fatal.append(error),
            on_stopped=lambda listener, error: self.stopped.append(error),
        )

    async def listen(
        self,
        *events: str,
        to: Iterable[Publishes] | None = None,
        name: str = "greeter",
        group: str | None = "{service_name}-greeter",
        api: str = "auth",
        **options: Any,
    ) -> list[EventMessage]:
        """Listen to all publishers (or these), and return the list of received events."""
        seen = self.seen.setdefault(name, [])

        async def function(message: EventMessage, **kwargs: Any) -> None:
            seen.append(message)

        options.setdefault("function", function)
        peers = [each.peer for each in (self._hub.publishers.values() if to is None else to)]
        listener = Listener(api=api, events=events or ("seen",), name=name, group=group, **options)
        await self.consumer.add(listener, peers)
        return seen

    def vanish(self) -> None:
        """End without a goodbye: the event in progress is not finished."""
        self.consumer._timer.cancel()
        for runner in self.consumer.runners:
            for task in runner._tasks:
                task.cancel()
        for connection in self.consumer._connections.values():
            connection.close()

    async def stop(self) -> None:
        """Leave in order."""
        await self.consumer.stop(5.0)
