"""The context of ZeroMQ and the options of its sockets. What the frames mean is not known here.

There are two kinds of sockets: those for an event loop (`bound_sockets`, `connecting_sockets`), and `blocking_dealer`
for one call in one plain thread. Who gets at them is for `security` to say, and where they are for `addressing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import zmq

from ...exceptions import TransportError
from ...ports.transport import Addressing, LinkState
from .blocking_dealer import BlockingDealer
from .connecting_sockets import CautiousSubscriber, Dealer, Subscriber
from .security import Security
from .unsolicited_messages import UnsolicitedMessages

if TYPE_CHECKING:
    from .bound_sockets import PublishingSocket, Router
    from .gate import Gate

__all__ = ["ZmqTransport", "versions"]

HIGH_WATER = 10_000
"""Messages queued per connection before a sender has to wait (or a subscriber misses some, and sees the gap)."""

UNREAD = 64
"""
Messages that wait in a subscriber, which are large: libzmq counts them, and not their bytes. More of them wait at the
publisher, which counts bytes too (`backlogs`).
"""

BACKLOG = 1024
"""Connections that wait to be taken: over the system's own limit, or with few, callers that come at once wait 1 s."""

MAX_SUBSCRIPTION = 16 * 1024
"""Bytes of a subscribed topic: libzmq takes thirty times as much for it. Names are shorter."""

ENCRYPTED = 64
"""Bytes that encryption adds to a message, at most: libzmq measures what it reads (RFC 26)."""

MAX_SOCKETS = 8192


class ZmqTransport:
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
        """The gate of our bound sockets; made with the first of them."""
        self.unsolicited = UnsolicitedMessages(max_message_size)
        """Bounds the unrequested messages of our dealers."""
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)

    def addressing(self) -> Addressing:
        """Return where peers are, and where we are, for a node that begins."""
        return (self._addressing or self.security.addressing)()

    def router(self, on_message: Callable[[bytes, bytes], None]) -> Router:
        """Return a ROUTER that calls `on_message(routing id, frame)`. Needs a running loop."""
        from .bound_sockets import Router  # what only a worker needs, as the gate

        socket, gate = self._server_socket(zmq.ROUTER)
        socket.set(zmq.RCVHWM, 0)  # see `_without_own_heartbeats`
        self._without_own_heartbeats(socket)
        socket.set(zmq.ROUTER_MANDATORY, 1)  # a reply to somebody who left is an error that we can count
        return Router(socket, on_message, gate)

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> PublishingSocket:
        """Return an XPUB that calls `on_subscription(topic, subscribed)`. Needs a running loop."""
        from .bound_sockets import PublishingSocket

        socket, gate = self._server_socket(zmq.XPUB)
        socket.set(zmq.RCVHWM, 0)  # see `_without_own_heartbeats`
        self._without_own_heartbeats(socket)
        socket.set(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION + ENCRYPTED)
        socket.set(zmq.XPUB_VERBOSE, 1)  # or who asks for nothing that others have not asked for would not be heard of
        return PublishingSocket(socket, on_subscription, gate)

    def dealer(
        self,
        endpoint: str,
        on_message: Callable[[bytes], None],
        *,
        fingerprint: str = "",
        on_state: Callable[[LinkState], None] | None = None,
        awaited: Callable[[], int] = int,
    ) -> Dealer:
        """
        Return a DEALER connected to one endpoint, which calls `on_message(frame)`. Needs a running loop.

        With `on_state` it is a *link*: it connects once, reports what becomes of the connection, and is then over.
        Without, libzmq reconnects it as long as it is open.

        Raises PeerRefused if the peer's key, known by its fingerprint, is not one of ours.
        """
        socket = self._dealer_with_heartbeats(fingerprint)
        socket.set(zmq.IMMEDIATE, 1)  # a frame is queued for a connection that stands, never for a hope
        if on_state is not None:
            socket.set(zmq.RECONNECT_IVL, -1)
        dealer = Dealer(socket, on_message, on_state, awaited)
        dealer.connect(endpoint)
        self.unsolicited.add(dealer)
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
        kind = Subscriber if endpoint.startswith("ipc://") else CautiousSubscriber
        subscriber = kind(socket, on_message)
        subscriber.connect(endpoint)
        return subscriber

    def blocking_dealer(self, endpoint: str, *, fingerprint: str = "") -> BlockingDealer:
        """Return a DEALER for blocking calls from one thread at a time."""
        socket = self._dealer_with_heartbeats(fingerprint)
        socket.set(zmq.IMMEDIATE, 1)
        return BlockingDealer(socket, endpoint)

    def look(self, now: float) -> None:
        """Look whether more waits to be read than may, unless the gate's thread does."""
        if self.gate is None:
            self.unsolicited.look(now)

    def when_grown(self, callback: Callable[[], None]) -> None:
        """Call it when the process has grown, from the thread that checks that."""
        self.unsolicited.when_grown(callback)

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
        """Return a socket to bind, and its monitor."""
        if self.gate is None:
            from .gate import Gate

            self.gate = Gate(
                self._context, self.security.admitted, unsolicited=self.unsolicited, largest=self.max_message_size
            )
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
        - The same happens where a heartbeat of the other end waits behind the full queue: the answer to it is written
          to what is no connection any more (`process_heartbeat_message`). Anybody could bring that about, so no queue
          that others fill is bounded by libzmq. It is read at once, and bounded behind it (`engine.inbox`), and from
          outside (`receive_limit`).

        The kernel answers the probes of TCP also for a process that does not read. Who connects to a ROUTER sends
        heartbeats itself, which are answered, and with the time to live that they carry a dead connection is noticed.
        """
        socket.set(zmq.HEARTBEAT_IVL, 0)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        interval = max(1, round(self.heartbeat_interval))
        socket.set(zmq.TCP_KEEPALIVE_IDLE, interval)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, interval)
        socket.set(zmq.TCP_KEEPALIVE_CNT, max(1, round(self.heartbeat_timeout / interval)))

    def _dealer_with_heartbeats(self, fingerprint: str) -> zmq.Socket[bytes]:
        """Return a DEALER, whose heartbeats show whether the peer is there."""
        socket = self._client_socket(zmq.DEALER, fingerprint)
        # What arrives should have been asked for (`unsolicited_messages`). A queue that gets full may end the process,
        # see `_without_own_heartbeats`.
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


def versions() -> dict[str, str]:
    """Return the versions of libzmq and pyzmq."""
    return {"libzmq": zmq.zmq_version(), "pyzmq": zmq.pyzmq_version()}
