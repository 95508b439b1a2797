"""The context of ZeroMQ and the options of its sockets. The content of frames is not known here.

There are two kinds of sockets: those for an event loop (`bound_sockets`, `connecting_sockets`), and `blocking_dealer`
for one call in one plain thread. `security` says who may connect to them, and `addressing` which endpoints they have.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import zmq

from ...exceptions import TransportError
from ...ports.transport import Addressing, LinkState
from ..host.descriptors import has_free_descriptors
from .blocking_dealer import BlockingDealer
from .connecting_sockets import CautiousSubscriber, Dealer, Subscriber
from .security import Security
from .unsolicited_messages import UnsolicitedMessages

if TYPE_CHECKING:
    from .bound_sockets import PublishingSocket, Router
    from .gate import Gate

__all__ = ["ZmqTransport", "versions"]

HIGH_WATER = 10_000
"""Messages queued per connection before a sender has to wait (or a subscriber misses some, and notices the gap)."""

UNREAD = 64
"""
Messages that may wait in a subscriber. The number is small because libzmq counts messages, not bytes, and they may be
large. Further ones wait at the publisher, which counts bytes, too (`backlogs`).
"""

BACKLOG = 1024
"""Connections that may wait to be accepted: beyond these, or the system's own limit, callers wait 1 s."""

MAX_SUBSCRIPTION = 16 * 1024
"""Largest subscribed topic, in bytes: libzmq takes thirty times as much memory for it. Names are shorter."""

ENCRYPTED = 64
"""Most bytes that encryption adds to a message (RFC 26): libzmq limits the encrypted size."""

MAX_SOCKETS = 8192

FIRST_DESCRIPTORS = 8
"""
More descriptors than the first socket of a context takes: five, as it starts two threads. If there is none for the set
of events of a thread, libzmq 4.3.5 aborts the process (`errno_assert` in `epoll_t::epoll_t`).
"""


class ZmqTransport:
    """
    A ZeroMQ context and the options that all our sockets have. Any thread may make sockets of it.

    Args:
        security: prepares each socket for the mode the bus is in.
        addressing: makes the addressing for a node, if not the one of `security`: with fixed ports, for example.
        max_message_size: bytes; libzmq disconnects a peer that sends more, before it reads the message.
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
        """The gate of our bound sockets; created with the first of them."""
        self.unsolicited = UnsolicitedMessages(max_message_size)
        """Bounds the unrequested messages of our dealers."""
        self._has_started = False
        """Whether a socket was made, and with the first of them the threads of libzmq."""
        with _raised_as_transport_error():
            self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)

    def addressing(self) -> Addressing:
        """Return the addressing for a new node: the endpoints of peers and its own."""
        return (self._addressing or self.security.addressing)()

    def router(self, on_message: Callable[[bytes, bytes], None]) -> Router:
        """Return a ROUTER that calls `on_message(routing id, frame)`. Needs a running loop."""
        from .bound_sockets import Router  # imported here: only workers need it, and the gate

        socket, gate = self._server_socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)  # a reply to a caller that is gone is an error, which we can count
        return Router(socket, on_message, gate)

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> PublishingSocket:
        """Return an XPUB that calls `on_subscription(topic, subscribed)`. Needs a running loop."""
        from .bound_sockets import PublishingSocket

        socket, gate = self._server_socket(zmq.XPUB)
        socket.set(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION + ENCRYPTED)
        socket.set(zmq.XPUB_VERBOSE, 1)  # report each subscription, also to a topic that another peer has already
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

        With `on_state` it is a *link*: it connects once, reports the states of the connection, and is not reconnected.
        Without, libzmq reconnects it as long as it is open.

        Raises PeerRefused if the peer's key, known by its fingerprint, is not one of ours, and TransportError if no
        further socket can be opened.
        """
        socket = self._dealer_with_heartbeats(fingerprint)
        socket.set(zmq.IMMEDIATE, 1)  # frames are only queued for an established connection
        if on_state is not None:
            socket.set(zmq.RECONNECT_IVL, -1)
        with _closed_if_it_fails(socket):
            dealer = Dealer(socket, on_message, on_state, awaited)
        dealer.connect(endpoint)
        self.unsolicited.add(dealer)
        return dealer

    def subscriber(self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str = "") -> Subscriber:
        """Return a SUB connected to one publisher, which calls `on_message(frame)`. Needs a running loop."""
        socket = self._client_socket(zmq.SUB, fingerprint)
        # Subscriptions are messages too: above a high-water mark they would be dropped silently.
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, UNREAD)
        self._without_own_heartbeats(socket)
        # With this option a new connection gets a queue of its own. Otherwise it inherits the old one, and if that was
        # full, the next read aborts the process, as described below: by the TTL in its pings, a publisher can make our
        # end time out.
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
        """Check whether too many messages wait to be read, unless the gate's thread does that."""
        if self.gate is None:
            self.unsolicited.look(now)

    def when_grown(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the process has grown, from the thread that checks that."""
        self.unsolicited.when_grown(callback)

    @property
    def refused(self) -> dict[str, int]:
        """How many connections to our bound sockets were refused, by reason."""
        return {} if self.gate is None else self.gate.refusals

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy if there is room for few more connections to our bound sockets, else None."""
        return None if self.gate is None else self.gate.crowding

    def close(self) -> None:
        """Close the context and every socket of it that is still open. Unsent messages are dropped."""
        if self.gate is not None:
            self.gate.stop()
        self._context.destroy(linger=0)

    def _server_socket(self, kind: int) -> tuple[zmq.Socket[bytes], Gate]:
        """Return a socket to bind, and the gate that watches it."""
        if self.gate is None:
            from .gate import Gate

            with _raised_as_transport_error():
                self.gate = Gate(
                    self._context, self.security.admitted, unsolicited=self.unsolicited, largest=self.max_message_size
                )
        socket = self._socket(kind)
        with _closed_if_it_fails(socket):
            socket.set(zmq.BACKLOG, BACKLOG)
            socket.set(zmq.RCVHWM, 0)  # see `_without_own_heartbeats`
            self._without_own_heartbeats(socket)
            self.security.prepare_server(socket)
            self.gate.watch(socket)
        return socket, self.gate

    def _without_own_heartbeats(self, socket: zmq.Socket[bytes]) -> None:
        """
        Let the kernel, not libzmq, detect that the other end of a connection is gone.

        If a receive queue can fill up, libzmq's heartbeats can abort the process (libzmq 4.3.5, every transport). While
        the queue is full, libzmq reads nothing from the connection, not even heartbeats. Three cases:

        - After the timeout a connecting socket reconnects (`stream_engine_base_t::timer_event`,
          `session_base_t::reconnect`). When the full queue is read then, libzmq tells the new connection to resume
          the input that the old one had stopped (`session_base_t::write_activated`): `Assertion failed:
          _input_stopped` in `stream_engine_base_t::restart_input`.
        - If the other end has gone in the meantime, the next heartbeat is written to a closed connection
          (`timer_event`, then `out_event`): `Assertion failed: !_io_error`. A worker that is busy for a second, and
          a caller that dies after sending ten thousand calls, are enough.
        - The same happens when a heartbeat of the other end is the next to be read after the full queue: the answer to
          it is written to a closed connection (`process_heartbeat_message`). Any peer could cause that, so libzmq
          bounds no queue that others fill. We read the queue at once, and bound what was read (`engine.inbox`) and,
          from outside, what has arrived (`receive_limit`).

        The kernel answers TCP's probes also for a process that does not read. A peer connected to a ROUTER sends
        heartbeats itself: libzmq answers them, and by their time to live it notices a dead connection.
        """
        socket.set(zmq.HEARTBEAT_IVL, 0)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        interval = max(1, round(self.heartbeat_interval))
        socket.set(zmq.TCP_KEEPALIVE_IDLE, interval)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, interval)
        socket.set(zmq.TCP_KEEPALIVE_CNT, max(1, round(self.heartbeat_timeout / interval)))

    def _dealer_with_heartbeats(self, fingerprint: str) -> zmq.Socket[bytes]:
        """Return a DEALER, whose heartbeats show whether the peer is alive."""
        socket = self._client_socket(zmq.DEALER, fingerprint)
        # `unsolicited_messages` bounds what arrives: a full queue may abort the process, see `_without_own_heartbeats`.
        socket.set(zmq.RCVHWM, 0)
        return socket

    def _client_socket(self, kind: int, fingerprint: str) -> zmq.Socket[bytes]:
        socket = self._socket(kind)
        with _closed_if_it_fails(socket):
            self.security.prepare_client(socket, fingerprint)
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        with _raised_as_transport_error():
            if not self._has_started and not has_free_descriptors(FIRST_DESCRIPTORS):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            socket = self._context.socket(kind)
        self._has_started = True
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, HIGH_WATER)
        socket.set(zmq.RCVHWM, HIGH_WATER)
        socket.set(zmq.MAXMSGSIZE, self.max_message_size + ENCRYPTED)
        socket.set(zmq.HEARTBEAT_IVL, int(self.heartbeat_interval * 1000))
        socket.set(zmq.HEARTBEAT_TIMEOUT, int(self.heartbeat_timeout * 1000))
        socket.set(zmq.HEARTBEAT_TTL, int(self.heartbeat_timeout * 1000))
        socket.set(zmq.HANDSHAKE_IVL, int(self.heartbeat_timeout * 1000))
        return socket


@contextmanager
def _closed_if_it_fails(socket: zmq.Socket[bytes]) -> Iterator[None]:
    """Close a socket if it cannot be prepared: what watches it needs descriptors, too."""
    try:
        with _raised_as_transport_error():
            yield
    except BaseException:
        socket.close(linger=0)
        raise


@contextmanager
def _raised_as_transport_error() -> Iterator[None]:
    try:
        yield
    except (zmq.ZMQError, OSError) as error:
        raise TransportError(
            f"No further socket can be opened: {error}. Is the limit of open files (ulimit -n) too low?"
        ) from error


def versions() -> dict[str, str]:
    """Return the versions of libzmq and pyzmq."""
    return {"libzmq": zmq.zmq_version(), "pyzmq": zmq.pyzmq_version()}
