"""
Transport in memory: between the loops and threads of one process, without a file, a socket or a thread of its own.

It keeps the promises of `ports.transport` as the one over ZeroMQ does: bounded queues, connections that are made again,
links that tell what becomes of them. A frame is handed over as it is, and not copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any, TypeVar

from ...exceptions import TransportError
from ...ports.transport import LinkState
from ...typing import Endpoint
from .addressing import MemoryAddressing, NoProtection
from .network import Arrived, Connection, MemoryNetwork

__all__ = [
    "MemoryBlockingDealer",
    "MemoryDealer",
    "MemoryPublisher",
    "MemoryRouter",
    "MemorySubscriber",
    "MemoryTransport",
]

logger = logging.getLogger("lightbus.transport")

S = TypeVar("S", bound="_Socket")

FAIR_SHARE = 256
"""Frames read from one socket before the rest of the loop gets its turn."""

LOOK_EVERY = 0.05
"""Seconds after which a blocking send or receive returns, so that its caller looks whether the peer is still there."""

MAX_MESSAGE_SIZE = 64 * 1024 * 1024


class MemoryTransport:
    """
    Makes sockets that reach each other, where they are on the same network. Any thread may use it.

    Args:
        network: where they meet.
        max_message_size: bytes that a frame to them may have.

    """

    def __init__(self, network: MemoryNetwork, *, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        self.network = network
        self.max_message_size = max_message_size
        self.security = NoProtection()
        self.refused: Mapping[str, int] = {}
        self.crowding: str | None = None
        self._sockets: weakref.WeakSet[_Socket] = weakref.WeakSet()

    def addressing(self) -> MemoryAddressing:
        """Return where peers are: on the network."""
        return MemoryAddressing(self.network)

    def router(self, on_message: Callable[[bytes, bytes], None]) -> MemoryRouter:
        """Return a router."""
        return self._add(MemoryRouter(self, on_message))

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> MemoryPublisher:
        """Return a publisher."""
        return self._add(MemoryPublisher(self, on_subscription))

    def dealer(
        self,
        endpoint: Endpoint,
        on_message: Callable[[bytes], None],
        *,
        fingerprint: str = "",
        on_state: Callable[[LinkState], None] | None = None,
    ) -> MemoryDealer:
        """Return a dealer; there are no keys, and so none is refused."""
        return self._add(MemoryDealer(self, endpoint, on_message, on_state))

    def subscriber(
        self, endpoint: Endpoint, on_message: Callable[[bytes], None], *, fingerprint: str = ""
    ) -> MemorySubscriber:
        """Return a subscriber."""
        return self._add(MemorySubscriber(self, endpoint, on_message))

    def blocking_dealer(self, endpoint: Endpoint, *, fingerprint: str = "") -> MemoryBlockingDealer:
        """Return a dealer for a plain thread."""
        return self._add(MemoryBlockingDealer(self, endpoint))

    def close(self) -> None:
        """Close every socket that is still open."""
        with self.network.lock:
            open_ones = list(self._sockets)
        for socket in open_ones:
            socket.abandon()

    def _add(self, socket: S) -> S:
        with self.network.lock:
            self._sockets.add(socket)
        return socket


class _Socket:
    """What all sockets share: what arrived, and the connections. Guarded by the network's lock."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.max_message_size = transport.max_message_size
        self.arrived: deque[Arrived] = deque()
        self.closed = False
        self.dropped = 0
        """Frames that were not sent, since their receiver was gone or too far behind."""
        self._network = transport.network
        self._connections: set[Connection] = set()

    def wake(self) -> None:
        """Have this socket look what there is, wherever it is read."""
        self._rouse()

    def _rouse(self) -> None:
        raise NotImplementedError

    def connected(self, connection: Connection) -> None:
        """Take in that somebody connected."""
        self._connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        """Take in that a connection has ended."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close the socket. What others have not read yet arrives; what was not read here is dropped."""
        with self._network.lock:
            self.closed = True
            self._leave()
            for connection in list(self._connections):
                connection.end()
            self.arrived.clear()

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket: what was sent has arrived already."""
        self.close()

    def abandon(self) -> None:
        """Close the socket of a loop that was closed before it."""
        self.close()

    def _leave(self) -> None:
        """Be connected to no more."""

    def _take(self) -> tuple[Connection | None, Any] | None:
        """Return what arrived first, and from where."""
        if not self.arrived:
            return None
        connection, lane, item = self.arrived.popleft()
        if connection is not None and lane is not None:
            connection.read(lane, item)
        return connection, item


class _LoopSocket(_Socket):
    """A socket of an event loop. Woken from any thread, it reads and calls back on its own loop only."""

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self.loop = asyncio.get_running_loop()
        self._paused = False
        self._is_woken = False
        # What is read is nothing of whoever sent it: a callback runs in the context in which the socket was made.
        self._context = copy_context()

    def _rouse(self) -> None:
        if self._is_woken or self.closed:
            return
        self._is_woken = True
        here = asyncio._get_running_loop() is self.loop
        call = self.loop.call_soon if here else self.loop.call_soon_threadsafe
        with contextlib.suppress(RuntimeError):  # that loop is closed: the socket is about to be abandoned
            call(self._look, context=self._context)

    def _look(self) -> None:
        """Read until nothing is left, or the others on the loop have a right to their turn."""
        with self._network.lock:
            self._is_woken = False
        try:
            for _ in range(FAIR_SHARE):
                with self._network.lock:
                    taken = None if self.closed or self._paused else self._take()
                if taken is None:
                    break
                self._receive(*taken)
        finally:
            with self._network.lock:
                if self.arrived and not self._paused:
                    self._rouse()
        if not self.closed:
            self._writable()

    def _receive(self, connection: Any, item: Any) -> None:
        """Hand on what arrived."""
        raise NotImplementedError

    def _writable(self) -> None:
        """Do what waits for the connection."""


class _ListeningSocket(_LoopSocket):
    """A socket that others connect to."""

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self._endpoints: set[Endpoint] = set()
        self._unread = 0

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Let others connect there. Raises TransportError where somebody else is bound."""
        if not self._network.bind(endpoint, self):
            raise TransportError(f"Cannot listen at {endpoint}: another socket is bound there. Choose another name.")
        self._endpoints.add(endpoint)
        return endpoint

    def unbind(self, endpoint: Endpoint) -> None:
        """Let nobody new connect there."""
        self._network.unbind(endpoint, self)
        self._endpoints.discard(endpoint)

    def _leave(self) -> None:
        for endpoint in self._endpoints:
            self._network.unbind(endpoint, self)

    def _drop(self, what: str, *, is_gone: bool = False) -> None:
        self.dropped += 1
        if is_gone:
            return  # as happens: nobody waits for it
        self._unread += 1
        if self._unread & (self._unread - 1) == 0:  # the first time, and then after twice as many
            logger.warning(
                "%s was dropped: who it is for does not read what it is sent (%d so far)", what, self._unread
            )


class MemoryRouter(_ListeningSocket):
    """Receives from many, answers each by its routing id."""

    def __init__(self, transport: MemoryTransport, on_message: Callable[[bytes, bytes], None]) -> None:
        super().__init__(transport)
        self._on_message = on_message
        self._by_id: dict[bytes, Connection] = {}

    def send(self, routing_id: bytes, frame: bytes) -> bool:
        """Send to one of those we heard from; False where it is gone, or does not read."""
        with self._network.lock:
            connection = self._by_id.get(routing_id)
            if connection is not None and connection.send(frame, to_client=True):
                return True
        self._drop("A reply", is_gone=connection is None)
        return False

    def connected(self, connection: Connection) -> None:
        super().connected(connection)
        self._by_id[connection.routing_id] = connection

    def disconnected(self, connection: Connection) -> None:
        super().disconnected(connection)
        self._by_id.pop(connection.routing_id, None)

    def _receive(self, connection: Any, item: Any) -> None:
        self._on_message(connection.routing_id, item)


class MemoryPublisher(_ListeningSocket):
    """Sends each frame to every subscriber one of whose subscriptions it begins with."""

    def __init__(self, transport: MemoryTransport, on_subscription: Callable[[bytes, bool], None]) -> None:
        super().__init__(transport)
        self._on_subscription = on_subscription
        self._subscribers: Counter[bytes] = Counter()

    def send(self, frame: bytes) -> None:
        """Publish. A subscriber that is too far behind misses it and sees the gap; nobody waits for it."""
        with self._network.lock:
            missing = [
                connection
                for connection in list(self._connections)
                if frame.startswith(connection.prefixes) and not connection.send(frame, to_client=True)
            ]
        for _ in missing:
            self._drop("What was published")

    def disconnected(self, connection: Connection) -> None:
        super().disconnected(connection)
        self.arrived.append((connection, None, None))
        self.wake()

    def _receive(self, connection: Any, item: Any) -> None:
        if item is None:
            for prefix in connection.prefixes:
                self._unsubscribed(prefix)
            connection.prefixes = ()
        elif connection.is_open:
            prefix, subscribed = item
            if subscribed:
                connection.prefixes += (prefix,)
                self._subscribers[prefix] += 1
                self._on_subscription(prefix, True)
            elif prefix in connection.prefixes:
                connection.prefixes = tuple(each for each in connection.prefixes if each != prefix)
                self._unsubscribed(prefix)

    def _unsubscribed(self, prefix: bytes) -> None:
        self._subscribers[prefix] -= 1
        if not self._subscribers[prefix]:
            del self._subscribers[prefix]
            self._on_subscription(prefix, False)


class _ConnectingSocket(_Socket):
    """A socket that is connected to one endpoint, again and again as long as it is open."""

    def __init__(self, transport: MemoryTransport, endpoint: Endpoint) -> None:
        super().__init__(transport)
        self.endpoint = endpoint
        self._connection: Connection | None = None
        with self._network.lock:
            self.wake()

    def wake(self) -> None:
        if self._connection is None and not self.closed:
            self._connect()
        self._rouse()

    def disconnected(self, connection: Connection) -> None:
        super().disconnected(connection)
        if connection is self._connection:
            self._connection = None
            if not self.closed:
                self.wake()

    def _connect(self) -> None:
        """Connect, or be woken once somebody is bound there."""
        self._connection = self._network.connect(self.endpoint, self)
        if self._connection is None:
            self._network.hope(self.endpoint, self)
        else:
            self.connected(self._connection)

    def _send(self, frame: bytes) -> bool:
        """Send, if the connection stands and takes it."""
        with self._network.lock:
            return self._connection is not None and self._connection.send(frame, to_client=False)

    def _leave(self) -> None:
        self._network.give_up(self.endpoint, self)


class MemoryDealer(_ConnectingSocket, _LoopSocket):
    """Speaks with one router. Frames sent before the connection stands wait here."""

    def __init__(
        self,
        transport: MemoryTransport,
        endpoint: Endpoint,
        on_message: Callable[[bytes], None],
        on_state: Callable[[LinkState], None] | None = None,
    ) -> None:
        self._on_message = on_message
        self._on_state = on_state
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        self._is_over = False
        """Whether it is a link, which connects once, and has done so."""
        super().__init__(transport, endpoint)

    def send(self, frame: bytes) -> bool:
        """Send now; False where there is no connection, it takes no more, or others wait already."""
        return not self._waiting and self._send(frame)

    def send_later(
        self,
        frame: bytes,
        on_sent: Callable[[], None] | None = None,
        *,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Keep a frame until the connection takes it; then call `on_sent`. Drop it if it is not `wanted` any more."""
        self._waiting.append((frame, on_sent, wanted))
        with self._network.lock:
            self.wake()

    def disconnected(self, connection: Connection) -> None:
        if self._on_state is not None:
            self._tell(LinkState.DISCONNECTED)  # behind what has arrived
        super().disconnected(connection)

    def _connect(self) -> None:
        if self._on_state is None:
            super()._connect()
        elif not self._is_over:
            self._is_over = True
            self._connection = self._network.connect(self.endpoint, self)
            if self._connection is None:
                self._tell(LinkState.REFUSED)
            else:
                self.connected(self._connection)
                self._tell(LinkState.REACHED, LinkState.CONNECTED)

    def _tell(self, *states: LinkState) -> None:
        self.arrived.extend((None, None, state) for state in states)

    def _receive(self, connection: Any, item: Any) -> None:
        if not isinstance(item, LinkState):
            self._on_message(item)
        elif self._on_state is not None:
            self._on_state(item)

    def _writable(self) -> None:
        while self._waiting and not self.closed:
            frame, on_sent, wanted = self._waiting[0]
            if wanted is not None and not wanted():
                self._waiting.popleft()
                continue
            if not self._send(frame):
                return
            self._waiting.popleft()
            if on_sent is not None:
                on_sent()


class MemorySubscriber(_ConnectingSocket, _LoopSocket):
    """Receives what one publisher publishes, as far as it is subscribed."""

    def __init__(self, transport: MemoryTransport, endpoint: Endpoint, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        self._prefixes: Counter[bytes] = Counter()
        super().__init__(transport, endpoint)

    def subscribe(self, prefix: bytes) -> None:
        """Ask for everything that begins with `prefix`."""
        with self._network.lock:
            self._prefixes[prefix] += 1
            if self._prefixes[prefix] == 1:
                self._tell(prefix, subscribed=True)

    def unsubscribe(self, prefix: bytes) -> None:
        """Take back one `subscribe`."""
        with self._network.lock:
            self._prefixes[prefix] -= 1
            if self._prefixes[prefix] <= 0:
                del self._prefixes[prefix]
                self._tell(prefix, subscribed=False)

    def pause(self) -> None:
        """Read nothing for now: what arrives waits, up to the high-water mark."""
        self._paused = True

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        with self._network.lock:
            self.wake()

    def _connect(self) -> None:
        super()._connect()
        for prefix in self._prefixes:
            self._tell(prefix, subscribed=True)

    def _tell(self, prefix: bytes, *, subscribed: bool) -> None:
        if self._connection is not None:
            self._connection.server.arrived.append((self._connection, None, (prefix, subscribed)))
            self._connection.server.wake()

    def _receive(self, connection: Any, item: Any) -> None:
        self._on_message(item)


class MemoryBlockingDealer(_ConnectingSocket):
    """A dealer for blocking calls, used by one thread at a time."""

    def __init__(self, transport: MemoryTransport, endpoint: Endpoint) -> None:
        self.was_used = False
        """Whether a frame was sent: if none can be any more, the connection broke."""
        self._changed = threading.Condition(transport.network.lock)
        super().__init__(transport, endpoint)

    def send(self, frame: bytes) -> bool:
        """Send; False when the connection did not stand, or took no more, within 50 ms."""
        with self._changed:
            is_sent = self._changed.wait_for(lambda: self._send(frame), LOOK_EVERY)
        self.was_used = self.was_used or is_sent
        return is_sent

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None when none came within 50 ms, or within `seconds` where that is less."""
        with self._changed:
            self._changed.wait_for(lambda: self.arrived or self.closed, min(seconds, LOOK_EVERY))
            taken = self._take()
        return None if taken is None else taken[1]

    def _rouse(self) -> None:
        self._changed.notify_all()
