"""The sockets: ROUTER, DEALER, XPUB and SUB behind a small interface. What the frames mean is not known here.

There are two kinds. The sockets for an event loop (`Router`, `Dealer`, `Publisher`, `Subscriber`) are read with
`loop.add_reader` on the descriptor that ZeroMQ gives each socket, and call back with what arrived; `BlockingDealer`
serves one call in one plain thread. `zmq.asyncio` is not used: a Future per frame costs more than the round trip.

The descriptor is edge-triggered (zmq_getsockopt(3), ZMQ_FD): it tells once that something happened, and any use of the
socket may swallow that. Hence each socket has one reader, `_readable`, which drains until nothing is left, and one
writer, `_send`, which has the reader look again afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from ...exceptions import TransportError
from ...ports.transport import Addressing, LinkState
from .backlogs import Backlogs
from .gate import Gate
from .security import Security
from .unread import Unread

__all__ = ["BlockingDealer", "Dealer", "LinkState", "Publisher", "Router", "Subscriber", "Transport", "versions"]

logger = logging.getLogger("lightbus.transport")

# Plain ints: an IntFlag or enum member costs pyzmq a conversion per call.
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_RCVMORE = int(zmq.RCVMORE)
_SOURCE = int(zmq.SRCFD)
"""The descriptor of the connection that a message came over."""

_CLOSED_BY_PEER = (errno.EPIPE, errno.ECONNRESET)

FAIR_SHARE = 256
"""Messages read from one socket before the rest of the loop gets its turn."""

HIGH_WATER = 10_000
"""Messages queued per connection before a sender is told to wait (or a subscriber misses some, and sees the gap)."""

UNREAD = 64
"""
Messages that wait in a subscriber, which are large: libzmq counts them, and not their bytes. More of them wait at the
publisher, which counts bytes too (`io.backlogs`).
"""

BURST = 0.00005
"""Seconds within which two sends belong to a burst."""

BACKLOG = 1024
"""Connections that wait to be taken: over the system's own limit, or with few, callers that come at once wait 1 s."""

MAX_SUBSCRIPTION = 16 * 1024
"""Bytes of a topic that somebody may subscribe to: libzmq takes thirty times as much for it. Names are shorter."""

ENCRYPTED = 64
"""Bytes that encryption adds to a message, at most: libzmq measures what it reads (RFC 26)."""

LEAST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds after which it is looked whether a caller for whom results wait has read some; longer where it has not."""

MAX_SOCKETS = 8192
LOOK_EVERY_MS = 50
"""A blocking receive wakes so often to look whether its peer is still there."""


class Transport:
    """
    A ZeroMQ context and the options that every socket of ours has. Any thread may make sockets of it.

    Args:
        security: prepares each socket for the mode the bus is in.
        addressing: makes what says where peers are, where it follows the addresses of this host or has fixed ports.
        max_message_size: bytes; a peer that sends more is disconnected by libzmq before we hold any of it.
        heartbeat_interval: seconds between ZMTP heartbeats (RFC 37). libzmq's own thread sends and answers them, so a
            busy handler does not look dead.
        heartbeat_timeout: seconds without an answer after which the connection counts as broken.

    """

    def __init__(
        self,
        security: Security,
        addressing: Callable[[], Addressing] | None = None,
        *,
        max_message_size: int = 64 * 1024 * 1024,
        heartbeat_interval: float = 1.0,
        heartbeat_timeout: float = 3.0,
    ) -> None:
        self.security = security
        self.max_message_size = max_message_size
        self.heartbeat_interval = heartbeat_interval
        self.heartbeat_timeout = heartbeat_timeout
        self._addressing = addressing
        self.gate: Gate | None = None
        """Who admits others to our bound sockets; made with the first of them."""
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)

    def addressing(self) -> Addressing:
        """Return where peers are, and where we are, for a node that begins."""
        return (self._addressing or self.security.addressing)()

    def router(self, on_message: Callable[[bytes, bytes], None]) -> Router:
        """Return a ROUTER that calls `on_message(routing id, frame)`. Needs a running loop."""
        socket, gate = self._server_socket(zmq.ROUTER)
        self._without_own_heartbeats(socket)
        socket.set(zmq.ROUTER_MANDATORY, 1)  # a reply to somebody who left is an error that we can count
        return Router(socket, on_message, gate)

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> Publisher:
        """Return an XPUB that calls `on_subscription(topic, subscribed)`. Needs a running loop."""
        socket, gate = self._server_socket(zmq.XPUB)
        self._without_own_heartbeats(socket)
        socket.set(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION + ENCRYPTED)
        socket.set(zmq.RCVHWM, UNREAD)  # libzmq takes in all that has come before we are told of any
        socket.set(zmq.XPUB_VERBOSE, 1)  # or who asks for nothing that others have not asked for would not be heard of
        return Publisher(socket, on_subscription, gate)

    def dealer(
        self,
        endpoint: str,
        on_message: Callable[[bytes], None],
        *,
        fingerprint: str = "",
        on_state: Callable[[LinkState], None] | None = None,
    ) -> Dealer:
        """
        Return a DEALER connected to one endpoint, which calls `on_message(frame)`. Needs a running loop.

        With `on_state` it is a *link*: it connects once, reports what becomes of the connection, and is then over.
        Without, libzmq reconnects it as long as it is open.

        Raises PeerRefused where the peer's key, known by its fingerprint, is none of ours.
        """
        socket = self._asking_socket(fingerprint)
        socket.set(zmq.IMMEDIATE, 1)  # a frame is queued for a connection that stands, never for a hope
        if on_state is not None:
            socket.set(zmq.RECONNECT_IVL, -1)
        dealer = Dealer(socket, on_message, on_state)
        dealer.connect(endpoint)
        return dealer

    def subscriber(self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str = "") -> Subscriber:
        """Return a SUB connected to one publisher, which calls `on_message(frame)`. Needs a running loop."""
        socket = self._client_socket(zmq.SUB, fingerprint)
        # Subscriptions are messages too: over a high-water mark they would be dropped without a word.
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, UNREAD)
        self._without_own_heartbeats(socket)
        # A connection that is made again gets a queue of its own. Otherwise it is given the old one, and where that was
        # full the next read ends the process, as below: a publisher can have our end time out by the TTL it pings with.
        socket.set(zmq.IMMEDIATE, 1)
        subscriber = Subscriber(socket, on_message)
        subscriber.connect(endpoint)
        return subscriber

    def blocking_dealer(self, endpoint: str, *, fingerprint: str = "") -> BlockingDealer:
        """Return a DEALER for blocking calls from one thread at a time."""
        socket = self._asking_socket(fingerprint)
        socket.set(zmq.IMMEDIATE, 1)
        return BlockingDealer(socket, endpoint)

    @property
    def refused(self) -> dict[str, int]:
        """How many connections to our bound sockets were refused, by reason."""
        return {} if self.gate is None else self.gate.refusals

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy where there is room for few more connections to our bound sockets; else None."""
        return None if self.gate is None else self.gate.crowding

    def close(self) -> None:
        """Close the context and every socket of it that is still open. What was not sent yet is dropped."""
        if self.gate is not None:
            self.gate.stop()
        self._context.destroy(linger=0)

    def _server_socket(self, kind: int) -> tuple[zmq.Socket[bytes], Gate]:
        """Return a socket to bind, and who watches it."""
        if self.gate is None:
            self.gate = Gate(self._context, self.security.admitted)
        socket = self._socket(kind)
        socket.set(zmq.BACKLOG, BACKLOG)
        self.security.prepare_server(socket)
        self.gate.watch(socket)
        return socket, self.gate

    def _without_own_heartbeats(self, socket: zmq.Socket[bytes]) -> None:
        """
        Have the kernel, and not libzmq, look whether the other end of a connection is still there.

        Where a queue may get full, libzmq's heartbeats end the process (libzmq 4.3.5, every transport), in two ways. It
        reads nothing while the queue is full, heartbeats neither.

        - After the timeout a connecting socket connects anew (`stream_engine_base_t::timer_event`,
          `session_base_t::reconnect`), and once somebody reads from the full queue it has the new connection go on with
          what the old one had stopped (`session_base_t::write_activated`): `Assertion failed: _input_stopped` in
          `stream_engine_base_t::restart_input`.
        - Where the other end is gone meanwhile, the next heartbeat that is due is written to what is no connection any
          more (`timer_event`, then `out_event`): `Assertion failed: !_io_error`. A worker that is busy for a second,
          and a caller that dies behind ten thousand calls, are enough.

        The kernel answers the probes of TCP also for a process that does not read. Who connects to a ROUTER sends
        heartbeats itself, which are answered, and with the time to live that they carry a dead connection is noticed.
        """
        socket.set(zmq.HEARTBEAT_IVL, 0)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        interval = max(1, round(self.heartbeat_interval))
        socket.set(zmq.TCP_KEEPALIVE_IDLE, interval)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, interval)
        socket.set(zmq.TCP_KEEPALIVE_CNT, max(1, round(self.heartbeat_timeout / interval)))

    def _asking_socket(self, fingerprint: str) -> zmq.Socket[bytes]:
        """Return a DEALER, whose heartbeats tell whether the peer is there."""
        socket = self._client_socket(zmq.DEALER, fingerprint)
        # What arrives has been asked for. A queue that gets full may end the process, see `_without_own_heartbeats`.
        socket.set(zmq.RCVHWM, 0)
        return socket

    def _client_socket(self, kind: int, fingerprint: str) -> zmq.Socket[bytes]:
        socket = self._socket(kind)
        try:
            self.security.prepare_client(socket, fingerprint)
        except BaseException:
            socket.close(linger=0)
            raise
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        try:
            socket = self._context.socket(kind)
        except zmq.ZMQError as error:
            raise TransportError(
                f"No further socket can be opened: {error}. Is the limit of open files (ulimit -n) too low?"
            ) from error
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, HIGH_WATER)
        socket.set(zmq.RCVHWM, HIGH_WATER)
        socket.set(zmq.MAXMSGSIZE, self.max_message_size + ENCRYPTED)
        socket.set(zmq.HEARTBEAT_IVL, int(self.heartbeat_interval * 1000))
        socket.set(zmq.HEARTBEAT_TIMEOUT, int(self.heartbeat_timeout * 1000))
        socket.set(zmq.HEARTBEAT_TTL, int(self.heartbeat_timeout * 1000))
        socket.set(zmq.HANDSHAKE_IVL, int(self.heartbeat_timeout * 1000))
        return socket


class _LoopSocket:
    """What the sockets of an event loop share. Only touched from the loop that they were made on."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.loop = asyncio.get_running_loop()
        self.dropped = 0
        """Frames that could not be sent since their receiver was gone or too far behind."""
        self._socket = socket
        self._descriptor = int(socket.FD)
        self._look_again_is_due = False
        self._draining = False
        self._looked_at = 0.0
        self._paused = False
        self.loop.add_reader(self._descriptor, self._readable)

    def bind(self, endpoint: str) -> str:
        """Bind, and return the endpoint with the port that was chosen. Raises TransportError."""
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            is_file = endpoint.startswith("ipc://")
            port = "Is another process using it, and is the address this host's?"
            question = "May this user make files there?" if is_file else port
            raise TransportError(f"Cannot listen at {endpoint}: {error}. {question}") from error
        return self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]

    def unbind(self, endpoint: str) -> None:
        """Take back one `bind`."""
        self._socket.unbind(endpoint)

    def connect(self, endpoint: str) -> None:
        """Connect to one endpoint. Raises TransportError where it cannot even be tried; the socket is closed then."""
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(f"Cannot connect to {endpoint}: {error}. Is the address right?") from error
        self._look_again()

    def close(self) -> None:
        """Close the socket; frames that libzmq still holds are dropped."""
        if not self._socket.closed:
            self.loop.remove_reader(self._descriptor)
            self._socket.close(linger=0)

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket, and let libzmq go on sending what it holds for so long (until the context is closed)."""
        if not self._socket.closed:
            self.loop.remove_reader(self._descriptor)
            self._socket.close(linger=milliseconds)

    def abandon(self) -> None:
        """Close the socket of a loop that was closed before it."""
        self._socket.close(linger=0)

    @property
    def closed(self) -> bool:
        """Whether the socket was closed."""
        return bool(self._socket.closed)

    def _receive(self) -> None:
        """Read one message and hand it on; raises zmq.Again when there is none."""
        raise NotImplementedError

    def _writable(self) -> None:
        """The socket may be able to send again."""

    def _readable(self) -> None:
        """Read until nothing is left. The only place that receives."""
        self._look_again_is_due = False
        if self.closed or self._paused:
            return
        self._draining = True
        try:
            self._receive()
            # Asking whether there is more costs less than half of what it costs to be told that there is not.
            if self._socket.getsockopt(_EVENTS) & _POLLIN:  # type: ignore[operator]
                for _ in range(FAIR_SHARE):
                    if self._paused:
                        break
                    self._receive()
                self._look_again()
        except zmq.ZMQError as error:
            # What arrived may have led to our being closed.
            if not self._socket.closed and error.errno != zmq.EAGAIN:
                raise
        finally:
            self._draining = False
        if not self._socket.closed:
            self._writable()

    def _look_again(self) -> None:
        if not self._look_again_is_due:
            self._look_again_is_due = True
            self.loop.call_soon(self._readable)

    def _send(self, frame: bytes, flags: int = _NOBLOCK) -> bool:
        """Send without waiting and return whether it was taken. The only place that sends."""
        try:
            self._socket.send(frame, flags)
        except zmq.Again:
            return False
        if not self._draining and not self._look_again_is_due:
            self._look_after_sending()
        return True

    def _look_after_sending(self) -> None:
        # Asking at once is quicker than another turn of the loop. In a burst, one turn for all of it is.
        now = time.monotonic()
        is_burst = now - self._looked_at < BURST
        self._looked_at = now
        if is_burst or self._socket.getsockopt(_EVENTS) & _POLLIN:  # type: ignore[operator]
            self._look_again()


class _BoundSocket(_LoopSocket):
    """One that others connect to. The gate watches it until right before it is closed, in whatever way."""

    def __init__(self, socket: zmq.Socket[bytes], gate: Gate) -> None:
        self._gate = gate
        super().__init__(socket)

    def unbind(self, endpoint: str) -> None:
        self._gate.before_unbind(self._socket, endpoint)
        super().unbind(endpoint)

    def close(self) -> None:
        self._gate.unwatch(self._socket)
        super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        self._gate.unwatch(self._socket)
        super().flush_and_close(milliseconds)

    def abandon(self) -> None:
        self._gate.unwatch(self._socket)
        super().abandon()


class Router(_BoundSocket):
    """Receives from many, answers each by its routing id."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[bytes, bytes], None],
        gate: Gate,
    ) -> None:
        self._on_message = on_message
        self.unread = Unread(self._give)
        self._pause = LEAST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(socket, gate)

    def send(self, routing_id: bytes, frame: bytes) -> bool:
        """Send to one of those we heard from, or keep it a while; False (and counted) where it is gone."""
        if not self.unread.takes(routing_id, frame):
            return self._give(routing_id, frame)
        if self._timer is None and self.unread:
            self._hand_over_later(LEAST_PAUSE)
        return True

    def close(self) -> None:
        self._stop_handing_over()
        super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        self._stop_handing_over()
        self.unread.flush()
        super().flush_and_close(milliseconds)

    def _stop_handing_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _hand_over_later(self, pause: float) -> None:
        self._pause = min(pause, LONGEST_PAUSE)
        self._timer = self.loop.call_later(self._pause, self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        if not self.closed:
            anything = self.unread.hand_over()
            if self.unread:
                self._hand_over_later(LEAST_PAUSE if anything else 2 * self._pause)

    def _give(self, routing_id: bytes, frame: bytes) -> bool:
        try:
            if self._send(routing_id, _NOBLOCK_MORE) and self._send(frame):
                return True
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
        self.dropped += 1
        return False

    def _receive(self) -> None:
        socket = self._socket
        routing_id = socket.recv(_NOBLOCK)
        if self.unread.knows(routing_id):
            frame = socket.recv(_NOBLOCK)
        else:
            received = socket.recv(_NOBLOCK, copy=False)
            with contextlib.suppress(zmq.ZMQError):
                self.unread.heard(routing_id, int(received.get(_SOURCE)))
            frame = received.bytes
        if socket.getsockopt(_RCVMORE):  # a stranger's: read on, or its next part would be taken for a routing id
            while socket.getsockopt(_RCVMORE):
                socket.recv(_NOBLOCK)
            frame = b""
        self._on_message(routing_id, frame)


class Dealer(_LoopSocket):
    """Speaks with one ROUTER. Frames sent before the connection stands wait here, not in libzmq."""

    _EVENT_STATES: ClassVar[dict[int, LinkState]] = {
        zmq.EVENT_CONNECTED: LinkState.REACHED,
        zmq.EVENT_HANDSHAKE_SUCCEEDED: LinkState.CONNECTED,
        zmq.EVENT_DISCONNECTED: LinkState.DISCONNECTED,
        zmq.EVENT_CLOSED: LinkState.REFUSED,
        zmq.EVENT_CONNECT_RETRIED: LinkState.REFUSED,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: LinkState.HANDSHAKE_FAILED,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: LinkState.DENIED,
        zmq.EVENT_HANDSHAKE_FAILED_AUTH: LinkState.DENIED,
    }

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[bytes], None],
        on_state: Callable[[LinkState], None] | None = None,
    ) -> None:
        self._on_message = on_message
        self._on_state = on_state
        self._waiting: deque[tuple[bytes, Callable[[], None] | None, Callable[[], bool] | None]] = deque()
        self._shook_hands = False
        self._may_want_key = True
        self._monitor: zmq.Socket[bytes] | None = None
        self._monitor_descriptor = -1
        super().__init__(socket)
        if on_state is not None:
            self._watch()

    def connect(self, endpoint: str) -> None:
        self._may_want_key = endpoint.startswith("tcp://")  # a file of mode host asks for none
        super().connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Send now; False where the connection does not stand yet, or others wait already."""
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
        self._look_again()

    def close(self) -> None:
        self._stop_watching()
        super().close()

    def flush_and_close(self, milliseconds: int) -> None:
        self._stop_watching()
        super().flush_and_close(milliseconds)

    def abandon(self) -> None:
        self._stop_watching(abandoned=True)
        super().abandon()

    def _receive(self) -> None:
        self._on_message(self._socket.recv(_NOBLOCK))

    def _writable(self) -> None:
        while self._waiting:
            frame, on_sent, wanted = self._waiting[0]
            if wanted is not None and not wanted():
                self._waiting.popleft()
                continue
            if not self._send(frame):
                return
            self._waiting.popleft()
            if on_sent is not None:
                on_sent()

    def _watch(self) -> None:
        events = 0
        for event in self._EVENT_STATES:
            events |= event
        self._monitor = self._socket.get_monitor_socket(events)
        self._monitor_descriptor = int(self._monitor.FD)
        self.loop.add_reader(self._monitor_descriptor, self._monitored)
        self.loop.call_soon(self._monitored)

    def _monitored(self) -> None:
        while self._monitor is not None:
            try:
                parts = self._monitor.recv_multipart(_NOBLOCK)
            except zmq.ZMQError:
                return
            message = parse_monitor_message(parts)
            state = self._EVENT_STATES.get(int(message["event"]))
            if state is not None and self._on_state is not None:
                self._on_state(self._seen_as(state, int(message["value"])))

    def _seen_as(self, state: LinkState, value: int) -> LinkState:
        """Tell a handshake that the peer broke off from other ends: with another key than ours it cannot say more."""
        if state is LinkState.CONNECTED:
            self._shook_hands = True
        closed = state is LinkState.HANDSHAKE_FAILED and value in _CLOSED_BY_PEER
        broken_off = state is LinkState.DISCONNECTED and not self._shook_hands
        denied = state is LinkState.DENIED or closed or broken_off
        if denied and self._may_want_key:
            return LinkState.DENIED
        return LinkState.HANDSHAKE_FAILED if state is LinkState.DENIED else state

    def _stop_watching(self, *, abandoned: bool = False) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            if not abandoned:
                self.loop.remove_reader(self._monitor_descriptor)
            # In this order, and not with `disable_monitor`: while libzmq has an event for a monitor that nobody reads
            # any more, its thread waits for ever, and with it everything.
            with contextlib.suppress(zmq.ZMQError):
                self._socket.monitor(None, 0)
            monitor.close(linger=0)


class Publisher(_BoundSocket):
    """Sends each frame to every subscriber one of whose subscriptions it begins with."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_subscription: Callable[[bytes, bool], None],
        gate: Gate,
    ) -> None:
        self._on_subscription = on_subscription
        self.backlogs = Backlogs()
        super().__init__(socket, gate)

    def send(self, frame: bytes) -> None:
        """Publish. A subscriber that is too far behind misses it and sees the gap; nobody waits for it."""
        self._send(frame)
        self.backlogs.published(len(frame))

    def _receive(self) -> None:
        received = self._socket.recv(_NOBLOCK, copy=False)
        with contextlib.suppress(zmq.ZMQError):  # an unsubscription that libzmq makes up comes from nowhere
            size = len(received) if received.bytes[:1] == b"\1" else -len(received)
            self.backlogs.heard(int(received.get(_SOURCE)), size)
        message = received.bytes
        if message and message[0] <= 1:  # 1 subscribes, 0 unsubscribes (RFC 29); anything else is a stranger's
            self._on_subscription(message[1:], message[0] == 1)


class Subscriber(_LoopSocket):
    """Receives what one publisher publishes, as far as it is subscribed."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        super().__init__(socket)

    def subscribe(self, prefix: bytes) -> None:
        """Ask for everything that begins with `prefix`."""
        self._socket.subscribe(prefix)
        self._look_again()

    def unsubscribe(self, prefix: bytes) -> None:
        """Take back one `subscribe`."""
        self._socket.unsubscribe(prefix)
        self._look_again()

    def pause(self) -> None:
        """Read nothing for now: what arrives waits in libzmq's queue, up to its high-water mark."""
        self._paused = True

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        self._look_again()

    def _receive(self) -> None:
        self._on_message(self._socket.recv(_NOBLOCK))


class BlockingDealer:
    """
    A DEALER for blocking calls, used by one thread at a time.

    It may pass from thread to thread where a lock lies between (zmq_socket(3): "with a full fence memory barrier").
    """

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.endpoint = endpoint
        self.was_used = False
        """Whether a frame was sent: if none can be any more, the connection broke."""
        self._socket = socket
        self._patience = LOOK_EVERY_MS
        socket.set(zmq.RCVTIMEO, LOOK_EVERY_MS)
        socket.set(zmq.SNDTIMEO, LOOK_EVERY_MS)
        socket.connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Send; False when the connection did not stand within 50 ms."""
        try:
            self._socket.send(frame)
        except zmq.Again:
            return False
        self.was_used = True
        return True

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None when none came within 50 ms, or within `seconds` where that is less."""
        patience = LOOK_EVERY_MS if seconds * 1000 >= LOOK_EVERY_MS else max(1, int(seconds * 1000))
        if patience != self._patience:
            self._socket.set(zmq.RCVTIMEO, patience)
            self._patience = patience
        try:
            return self._socket.recv()
        except zmq.Again:
            return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)


def versions() -> dict[str, str]:
    """Return the versions of libzmq and pyzmq."""
    return {"libzmq": zmq.zmq_version(), "pyzmq": zmq.pyzmq_version()}
