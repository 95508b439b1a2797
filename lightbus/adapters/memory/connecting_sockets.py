"""The sockets in memory that connect to a worker: for calls, for events, and for calls in plain threads."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ...ports.transport import LinkState
from ...typing import Endpoint
from .loop_socket import MemoryLoopSocket, MemorySocket
from .network import MemoryNetwork, MemoryPipe

__all__ = ["MemoryBlockingDealer", "MemoryDealer", "MemorySubscriber"]

LOOK_EVERY = 0.05
"""Seconds after which a blocking send or receive returns, so that its caller checks whether the peer still exists."""


class _ConnectingSocket(MemorySocket):
    """A socket that connects to one endpoint, and reconnects as long as it is open."""

    def __init__(self, network: MemoryNetwork, max_message_size: int, endpoint: Endpoint) -> None:
        super().__init__(network, max_message_size)
        self.endpoint = endpoint
        self._connection: MemoryPipe | None = None
        with self._network.lock:
            self.wake()

    def wake(self) -> None:
        if self._connection is None and not self.closed:
            self._connect()
        self._wake()

    def disconnected(self, connection: MemoryPipe) -> None:
        super().disconnected(connection)
        if connection is self._connection:
            self._connection = None
            if not self.closed:
                self.wake()

    def _connect(self) -> None:
        """Connect, or wait until a socket is bound to the endpoint."""
        self._connection = self._network.connect(self.endpoint, self)
        if self._connection is None:
            self._network.wait_for_bind(self.endpoint, self)
        else:
            self.connected(self._connection)

    def _send(self, frame: bytes) -> bool:
        """Send, if there is a connection with room; return whether the frame was sent."""
        with self._network.lock:
            return self._connection is not None and self._connection.send(frame, to_client=False)

    def _leave(self) -> None:
        self._network.give_up(self.endpoint, self)


class MemoryDealer(_ConnectingSocket, MemoryLoopSocket):
    """A socket to one router. Frames sent before it is connected wait here."""

    def __init__(
        self,
        network: MemoryNetwork,
        max_message_size: int,
        endpoint: Endpoint,
        on_message: Callable[[bytes], None],
        on_state: Callable[[LinkState], None] | None = None,
    ) -> None:
        self._on_message = on_message
        self._on_state = on_state
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        self._is_over = False
        """Whether this is a link, which connects only once, and has done so."""
        super().__init__(network, max_message_size, endpoint)

    def send(self, frame: bytes) -> bool:
        """Send now; False if there is no connection, it has no room, or other frames wait already."""
        return not self._waiting and self._send(frame)

    def send_later(
        self,
        frame: bytes,
        on_sent: Callable[[], None] | None = None,
        *,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Keep a frame until the connection takes it, then call `on_sent`. Drop the frame once it is not `wanted`."""
        self._waiting.append((frame, on_sent, wanted))
        with self._network.lock:
            self.wake()

    def disconnected(self, connection: MemoryPipe) -> None:
        if self._on_state is not None:
            self._tell(LinkState.DISCONNECTED)  # after the frames that have arrived
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


class MemorySubscriber(_ConnectingSocket, MemoryLoopSocket):
    """Receives the subscribed messages of one publisher."""

    def __init__(
        self, network: MemoryNetwork, max_message_size: int, endpoint: Endpoint, on_message: Callable[[bytes], None]
    ) -> None:
        self._on_message = on_message
        self._prefixes: Counter[bytes] = Counter()
        super().__init__(network, max_message_size, endpoint)

    def subscribe(self, prefix: bytes) -> None:
        """Subscribe to all messages that begin with `prefix`."""
        with self._network.lock:
            self._prefixes[prefix] += 1
            if self._prefixes[prefix] == 1:
                self._tell(prefix, subscribed=True)

    def unsubscribe(self, prefix: bytes) -> None:
        """Undo one `subscribe`."""
        with self._network.lock:
            self._prefixes[prefix] -= 1
            if self._prefixes[prefix] <= 0:
                del self._prefixes[prefix]
                self._tell(prefix, subscribed=False)

    def pause(self) -> None:
        """Stop reading for now: messages wait, up to the high-water mark."""
        self._paused = True

    def resume(self) -> None:
        """Resume reading."""
        self._paused = False
        with self._network.lock:
            self.wake()

    def read(self) -> bool:
        """Read now what has arrived, also during a pause."""
        paused, self._paused = self._paused, False
        try:
            self._look()
        finally:
            self._paused = paused
        return not self.closed and bool(self.arrived)

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

    def __init__(self, network: MemoryNetwork, max_message_size: int, endpoint: Endpoint) -> None:
        self.was_used = False
        """Whether a frame was sent: if sending fails later, the connection broke."""
        self._changed = threading.Condition(network.lock)
        super().__init__(network, max_message_size, endpoint)

    def send(self, frame: bytes) -> bool:
        """Send a frame; return False if there was no connection with room within 50 ms."""
        was_used, self.was_used = self.was_used, True  # first: the frame may be sent when an interrupt comes
        with self._changed:
            is_sent = self._changed.wait_for(lambda: self._send(frame), LOOK_EVERY)
        self.was_used = was_used or is_sent
        return is_sent

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None if none arrived within 50 ms, or within `seconds` if that is less."""
        with self._changed:
            self._changed.wait_for(lambda: self.arrived or self.closed, min(seconds, LOOK_EVERY))
            taken = self._take()
        return None if taken is None else taken[1]

    def is_empty(self) -> bool:
        """Return whether no frame waits to be read."""
        with self._changed:
            return not self.arrived

    def _wake(self) -> None:
        self._changed.notify_all()
