"""
Transport: the sockets of the bus and their endpoints, independent of what carries the frames.

A worker binds two: a `RouterSocket` for calls and control, and a `PublisherSocket` for events. Peers connect to them
with a `DealerSocket`, or a `BlockingSocket` in a plain thread, and with a `SubscriberSocket`. The transport does not
know what frames mean, and no other code knows what an `Endpoint` looks like.

HELLO verifies connections. So a transport may lose frames or connections, as long as the frames that arrive are whole,
and in the order in which they were sent on their connection. Only the transport can notice that a peer is gone without
notice (a host without power, a stopped process): a link then reports DISCONNECTED, after `network.heartbeat_timeout`.
Every implementation passes `tests/ports/test_transport.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from ..config.settings import NetworkSettings
from ..typing import Endpoint, InstanceId
from ..wire.announcement import Announcement

__all__ = [
    "MOST_ENDPOINTS",
    "Addressing",
    "BlockingSocket",
    "BoundPair",
    "DealerSocket",
    "Endpoint",
    "Endpoints",
    "LinkState",
    "ListeningSocket",
    "Protection",
    "PublisherSocket",
    "RouterSocket",
    "Socket",
    "SubscriberSocket",
    "Transport",
    "TransportFactory",
]

MOST_ENDPOINTS = 4
"""Endpoints of a peer that are tried at a time."""


class LinkState(Enum):
    """The states of a connection whose dealer was made with `on_state`."""

    REACHED = "reached"
    """A socket listens at the address; the handshake begins."""
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    """Nothing listens at the address."""
    HANDSHAKE_FAILED = "handshake failed"
    DENIED = "denied"
    """The handshake was broken off, by the peer or by us: there is no common key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """
    The endpoints of a worker.

    Attributes:
        rpc, event: the endpoints of its two sockets for its own process.
        addresses, rpc_port, event_port: announced to peers that connect by IP; the ports are 0 otherwise.
        directory: announced to peers that connect by files; empty otherwise, or if it cannot be announced.

    """

    rpc: Endpoint
    event: Endpoint
    addresses: tuple[str, ...] = ()
    rpc_port: int = 0
    event_port: int = 0
    directory: str = ""


class Socket(Protocol):
    """
    The common methods of sockets of an event loop.

    A socket is made, used and closed on one loop, and calls back on it: not before the method that made it has
    returned, and not after it was closed.
    """

    @property
    def dropped(self) -> int:
        """Frames not sent because their receiver was gone or too far behind, even if `send` had taken them."""

    def close(self) -> None:
        """Close the socket; may be called again. Frames that were sent and not read yet may be dropped."""

    def flush_and_close(self, milliseconds: int) -> None:
        """Close the socket, and keep sending queued frames for up to `milliseconds`."""

    def abandon(self) -> None:
        """Close the socket after its loop was closed; from any thread."""


class ListeningSocket(Socket, Protocol):
    """A socket that peers connect to."""

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Bind to a further endpoint; return the exact endpoint. Raises TransportError."""

    def unbind(self, endpoint: Endpoint) -> None:
        """Accept no new connections at an endpoint. Open connections are kept."""


class RouterSocket(ListeningSocket, Protocol):
    """Receives from many callers, and answers each by its routing id: bytes that identify one connection."""

    def send(self, routing_id: bytes, frame: bytes) -> bool:
        """Send without waiting; False (and counted in `dropped`) if the peer is gone, or has too much to read."""

    def send_from_thread(self, routing_id: bytes, frame: bytes) -> bool:
        """Send from a thread that is not the loop's; False also if the socket is closed."""


class PublisherSocket(ListeningSocket, Protocol):
    """Sends each frame to every subscriber that has subscribed to a prefix of it."""

    def send(self, frame: bytes) -> None:
        """Publish, without waiting. A subscriber that is too far behind misses the frame."""


class DealerSocket(Socket, Protocol):
    """A socket to one router."""

    def send(self, frame: bytes) -> bool:
        """
        Send, at the latest at the end of this turn of the loop.

        Return False if there is no connection yet, it takes no more, or other frames wait already.
        """

    def send_later(
        self,
        frame: bytes,
        on_sent: Callable[[], None] | None = None,
        *,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Keep a frame until the connection takes it, then call `on_sent`. Drop the frame once it is not `wanted`."""


class SubscriberSocket(Socket, Protocol):
    """Receives the subscribed messages of one publisher. A connection that breaks is made again."""

    def subscribe(self, prefix: bytes) -> None:
        """Subscribe to all messages that begin with `prefix`. The publisher is told, in the order of the calls."""

    def unsubscribe(self, prefix: bytes) -> None:
        """Undo one `subscribe`."""

    def pause(self) -> None:
        """Stop reading for now: messages wait, up to a bound; those beyond it are missed."""

    def resume(self) -> None:
        """Resume reading."""

    def read(self) -> bool:
        """Read now what has arrived, as much as is read at a time, also in a pause; return whether there is more."""


class BlockingSocket(Protocol):
    """A dealer for blocking calls, used by one thread at a time. It may move between threads with a lock in between."""

    @property
    def was_used(self) -> bool:
        """
        Whether a frame was sent: if sending fails later, the connection broke.

        It may not be made again: do not wait for such a socket to reconnect, but close it and make another.
        """

    def send(self, frame: bytes) -> bool:
        """Send a frame; return False if that was not possible within 50 ms."""

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None if none arrived within 50 ms, or within `seconds` if that is less."""

    def is_empty(self) -> bool:
        """Return whether no frame waits to be read."""

    def close(self) -> None:
        """Close the socket; may be called again."""


class BoundPair(Protocol):
    """The bindings of a worker's two sockets, as long as it serves. Only touched from the node's loop."""

    @property
    def endpoints(self) -> Endpoints:
        """The present endpoints."""

    def look(self, now: float) -> bool:
        """Check, if it is due, whether peers can still connect; return whether `endpoints` have changed."""

    def move(self, addresses: tuple[str, ...]) -> None:
        """Bind at these addresses of this host, too; those for which that fails are logged and left out."""

    def close(self) -> None:
        """Remove the entries by which peers find the sockets. The sockets are closed by their maker."""


class Addressing(Protocol):
    """
    The endpoints of peers and of our own sockets. Made for one node, and only touched from its loop.

    An announcement is unverified input. No method waits for a network.

    One endpoint does not come from this object: that of a fixed peer whose name was looked up, `tcp://address:port`.
    If a transport cannot read an endpoint, `dealer` raises TransportError.
    """

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of this host that we listen at; none if peers do not connect by IP."""

    def look(self, now: float) -> bool:
        """Check, if it is due, whether `addresses` have changed."""

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> BoundPair:
        """Bind the two sockets of a worker. Raises TransportError, or InvalidConfiguration if no place is usable."""

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether a peer's sockets are of a kind that we can connect to."""

    def fixed_peer(self, written: str) -> Endpoint:
        """
        Return the endpoint of a fixed peer, given as in the settings (`discovery.peers`).

        There it is `host:port`, `tcp://host:port`, `ipc:///path`, or `srv+lightbus://name`. Names are looked up in the
        endpoints that begin with `tcp://` or `srv+lightbus://`.
        """

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return the endpoints to try for a peer after so many failures: at most `MOST_ENDPOINTS`, the best first."""

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """
        Return the endpoints for calls and events of a peer that answered at `endpoint`, for further connections.

        The second is empty if the peer has no endpoint for events that we can connect to.
        """

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Return whether REFUSED at this endpoint proves that no process listens there: no network lies in between."""

    def why_not(self, announcement: Announcement) -> str:
        """Return why a peer has no `endpoints`: the end of a sentence about the peer. Empty if it has some."""

    def is_gone(self, announcement: Announcement) -> bool:
        """Return whether a peer without `endpoints` has certainly ended."""

    def hint(self, announcement: Announcement) -> str:
        """Return a sentence on why a peer may not answer, and what to do about it here."""

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to check if nothing answers at the endpoint of a fixed peer."""


class Protection(Protocol):
    """Which peers can reach the sockets of a transport, for messages. Never changes."""

    @property
    def mode(self) -> str:
        """The name of the mode."""

    @property
    def level(self) -> int:
        """The logging level of `describe()`: a warning without protection."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of our keys, first that of the key we use; a single empty text without keys."""

    @property
    def refusal(self) -> str:
        """What a peer's breaking off the handshake means, and what to do: the end of a sentence about the peer."""

    def describe(self) -> str:
        """Return the sentence that a worker logs at its start: who can reach the worker, and how to change that."""


class Transport(Protocol):
    """Makes the sockets of one process on one bus. Any thread may use it."""

    @property
    def max_message_size(self) -> int:
        """The largest frame to us, in bytes: a connection with a larger one is closed before that frame is read."""

    @property
    def security(self) -> Protection:
        """Which peers can reach the sockets."""

    @property
    def refused(self) -> Mapping[str, int]:
        """The number of refused connections to bound sockets, by reason."""

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy if there is room for few more connections to bound sockets, else None."""

    def addressing(self) -> Addressing:
        """Return the addressing for a new node."""

    def router(self, on_message: Callable[[bytes, bytes], None]) -> RouterSocket:
        """Return a socket that calls `on_message(routing id, frame)`. Needs a running loop."""

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> PublisherSocket:
        """
        Return a socket that calls `on_subscription(prefix, subscribed)`. Needs a running loop.

        It is called for every subscription of every subscriber (perhaps more than once), and when the last subscription
        to a prefix has ended. Messages published after the call reach the subscriber.
        """

    def dealer(
        self,
        endpoint: Endpoint,
        on_message: Callable[[bytes], None],
        *,
        fingerprint: str = "",
        on_state: Callable[[LinkState], None] | None = None,
        awaited: Callable[[], int] = int,
    ) -> DealerSocket:
        """
        Return a socket connected to one router, which calls `on_message(frame)`. Needs a running loop.

        With `on_state` it is a *link*: it connects once, reports the states of the connection, and is not reconnected.
        Without, it is reconnected as long as it is open. `fingerprint` is that of the peer's key, if known. `awaited`
        returns, in any thread, how many requested answers, which may be large, are still to come.

        Raises PeerRefused if that key is not one of ours, and TransportError if the endpoint is invalid.
        """

    def subscriber(
        self, endpoint: Endpoint, on_message: Callable[[bytes], None], *, fingerprint: str = ""
    ) -> SubscriberSocket:
        """Return a socket connected to one publisher, which calls `on_message(frame)`. Raises as `dealer` does."""

    def blocking_dealer(self, endpoint: Endpoint, *, fingerprint: str = "") -> BlockingSocket:
        """Return a socket connected to one router, for one plain thread at a time. Raises as `dealer` does."""

    def look(self, now: float) -> None:
        """Check, if it is due, whether too many messages wait. Called ten times a second, on the node's loop."""

    def when_grown(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, in any thread, when blocking sockets may hold many unrequested messages."""

    def close(self) -> None:
        """Close every socket that is still open; from any thread, when none is in use."""


TransportFactory: TypeAlias = Callable[[str, NetworkSettings], Transport]
"""Makes the transport of a process, from the name of the bus and the settings `network`. An argument of `create`."""
