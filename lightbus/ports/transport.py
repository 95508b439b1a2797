"""
Transport: the sockets of the bus and where they are, whatever carries the frames.

A worker binds two: a `RouterSocket` for calls and control, and a `PublisherSocket` for events. Everyone connects to
them with a `DealerSocket`, or a `BlockingSocket` in a plain thread, and with a `SubscriberSocket`. What the frames mean
is not known here, and what an `Endpoint` looks like is known to nobody else.

Whether a connection is what it seems is for HELLO to say: a transport that loses frames or connections harms nobody, as
long as what arrives is whole, and in the order in which it was sent on that connection. That a peer is gone without a
word (a host without power, a process that is stopped) nobody else notices: a link then reports DISCONNECTED, after
`network.heartbeat_timeout`. Every implementation passes `tests/ports/test_transport.py`.
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
    """What becomes of a connection whose dealer was made with `on_state`."""

    REACHED = "reached"
    """Something listens there; the handshake begins."""
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    """Nothing listens at the address."""
    HANDSHAKE_FAILED = "handshake failed"
    DENIED = "denied"
    """The handshake was broken off, by the peer or by us: there is no key in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """
    Where a worker is bound.

    Attributes:
        rpc, event: where its own process reaches the two sockets.
        addresses, rpc_port, event_port: announced to others, if they connect by IP; the ports are 0 otherwise.
        directory: announced to others, if they connect by files; empty otherwise, or if it cannot be announced.

    """

    rpc: Endpoint
    event: Endpoint
    addresses: tuple[str, ...] = ()
    rpc_port: int = 0
    event_port: int = 0
    directory: str = ""


class Socket(Protocol):
    """
    What all sockets of an event loop can do.

    Made, used and closed on one loop, on which they call back: not before the method that made them has returned, and
    not after they were closed.
    """

    @property
    def dropped(self) -> int:
        """Frames that were not sent, since their receiver was gone or too far behind; also such as were taken first."""

    def close(self) -> None:
        """Close, as often as one likes. What was sent may be dropped where it was not read yet."""

    def flush_and_close(self, milliseconds: int) -> None:
        """Close, and keep sending queued frames for so many seconds."""

    def abandon(self) -> None:
        """Close the socket of a loop that was closed before it; from any thread."""


class ListeningSocket(Socket, Protocol):
    """A socket that others connect to."""

    def bind(self, endpoint: Endpoint) -> Endpoint:
        """Let others connect there, too; return where exactly that is. Raises TransportError."""

    def unbind(self, endpoint: Endpoint) -> None:
        """Accept no new connection there. Open connections are kept."""


class RouterSocket(ListeningSocket, Protocol):
    """Receives from many, and answers each by its routing id: bytes that stand for one connection."""

    def send(self, routing_id: bytes, frame: bytes) -> bool:
        """Send without waiting; False (and counted in `dropped`) where it is gone, or has too much to read."""

    def send_from_thread(self, routing_id: bytes, frame: bytes) -> bool:
        """Send from another thread than that of the loop; False, too, where the socket was closed."""


class PublisherSocket(ListeningSocket, Protocol):
    """Sends each frame to every subscriber one of whose subscriptions it begins with."""

    def send(self, frame: bytes) -> None:
        """Publish, without waiting. A subscriber that is too far behind misses it."""


class DealerSocket(Socket, Protocol):
    """Speaks with one router."""

    def send(self, frame: bytes) -> bool:
        """
        Send, at the latest at the end of this turn of the loop.

        False where the connection does not stand yet or takes no more, or others wait already.
        """

    def send_later(
        self,
        frame: bytes,
        on_sent: Callable[[], None] | None = None,
        *,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Keep a frame until the connection takes it; then call `on_sent`. Drop it if it is not `wanted` any more."""


class SubscriberSocket(Socket, Protocol):
    """Receives what one publisher publishes, as far as it is subscribed. A connection that breaks is made again."""

    def subscribe(self, prefix: bytes) -> None:
        """Ask for everything that begins with `prefix`. The publisher hears of it, in the order of the calls."""

    def unsubscribe(self, prefix: bytes) -> None:
        """Take back one `subscribe`."""

    def pause(self) -> None:
        """Read nothing for now: what arrives waits, up to a bound beyond which it is missed."""

    def resume(self) -> None:
        """Resume reading."""


class BlockingSocket(Protocol):
    """A dealer for blocking calls, used by one thread at a time. It may pass between threads with a lock between."""

    @property
    def was_used(self) -> bool:
        """
        Whether a frame was sent: if none can be any more, the connection broke.

        It may be for good then: nobody is to wait for such a socket to connect again, but to close it and make another.
        """

    def send(self, frame: bytes) -> bool:
        """Send; False when that was not possible within 50 ms."""

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None when none came within 50 ms, or within `seconds` where that is less."""

    def is_empty(self) -> bool:
        """Return whether nothing waits to be read."""

    def close(self) -> None:
        """Close, as often as one likes."""


class BoundPair(Protocol):
    """Where the two sockets of a worker are bound, as long as it serves. Only touched from the node's loop."""

    @property
    def endpoints(self) -> Endpoints:
        """Where they are now."""

    def look(self, now: float) -> bool:
        """Look, if it is time to, whether others can still come in; return whether `endpoints` have changed."""

    def move(self, addresses: tuple[str, ...]) -> None:
        """Be reachable at these addresses of this host, too; those at which that fails are logged and left out."""

    def close(self) -> None:
        """Remove the entries that lead others here. The sockets are closed by their maker."""


class Addressing(Protocol):
    """
    Where peers are, and where we are. Made for one node, and only touched from its loop.

    An announcement is unverified input. No method waits for a network.

    One endpoint does not come from here: that of a fixed peer whose name was looked up, which is `tcp://address:port`.
    What a transport cannot read is a TransportError of `dealer`.
    """

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of this host at which we are; none where peers do not come by IP."""

    def look(self, now: float) -> bool:
        """Look, if it is time to, whether `addresses` are others now."""

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> BoundPair:
        """Bind the two sockets of a worker. Raises TransportError, or InvalidConfiguration where it cannot be."""

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether a peer's sockets are of a kind that we can connect to."""

    def fixed_peer(self, written: str) -> Endpoint:
        """
        Return the endpoint of a fixed peer as the settings have it (`discovery.peers`).

        That is `host:port`, `tcp://host:port`, `ipc:///path`, or `srv+lightbus://name`. A name is looked up where the
        endpoint is `tcp://` or that of such a record.
        """

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return where to try a peer after so many failures: at most `MOST_ENDPOINTS`, the best first."""

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """
        Return where further connections to a peer lead that answered at `endpoint`: for its calls and its events.

        The second is empty where it has none that can be connected to.
        """

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Return whether REFUSED there means that no process is there, and not that a network is in between."""

    def why_not(self, announcement: Announcement) -> str:
        """Return why there are no `endpoints` of a peer: the end of a sentence about it. Empty where there are."""

    def is_gone(self, announcement: Announcement) -> bool:
        """Return whether a peer for which there are no `endpoints` has certainly ended."""

    def hint(self, announcement: Announcement) -> str:
        """Return a sentence on why a peer may not answer, and what to do about it here."""

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to check if nothing answers at the endpoint of a fixed peer."""


class Protection(Protocol):
    """Which peers can reach the sockets of a transport, for messages. Never changes."""

    @property
    def mode(self) -> str:
        """A name for it."""

    @property
    def level(self) -> int:
        """The logging level of `describe()`: one without any warns."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of our keys, that of the one we speak first; one empty text without keys."""

    @property
    def refusal(self) -> str:
        """What it means that a peer breaks off our handshake, and what to do: the end of a sentence about it."""

    def describe(self) -> str:
        """Return the sentence that a worker logs at its start: who can reach it, and how to change that."""


class Transport(Protocol):
    """Makes the sockets of one process on one bus; any thread may have it make some."""

    @property
    def max_message_size(self) -> int:
        """Bytes that a frame to us may have: a connection over which more comes is closed before any of it is read."""

    @property
    def security(self) -> Protection:
        """Which peers can reach the sockets."""

    @property
    def refused(self) -> Mapping[str, int]:
        """How many connections to bound sockets were refused, by reason."""

    @property
    def crowding(self) -> str | None:
        """A sentence with the remedy where there is room for few more connections to bound sockets; else None."""

    def addressing(self) -> Addressing:
        """Return where peers are, and where we are, for a node that begins."""

    def router(self, on_message: Callable[[bytes, bytes], None]) -> RouterSocket:
        """Return a socket that calls `on_message(routing id, frame)`. Needs a running loop."""

    def publisher(self, on_subscription: Callable[[bytes, bool], None]) -> PublisherSocket:
        """
        Return a socket that calls `on_subscription(prefix, subscribed)`. Needs a running loop.

        It is told of every subscriber's subscriptions (perhaps of one more than once), and that the last one to a
        prefix has ended. What is published after it was told reaches the subscriber.
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

        With `on_state` it is a *link*: it connects once, reports what becomes of the connection, and is then over.
        Without, it is connected again as long as it is open. `fingerprint` is that of the peer's key, where one is
        known. `awaited` tells, from any thread, how many large answers may come that were asked for.

        Raises PeerRefused if that key is not one of ours, and TransportError if it cannot even be tried.
        """

    def subscriber(
        self, endpoint: Endpoint, on_message: Callable[[bytes], None], *, fingerprint: str = ""
    ) -> SubscriberSocket:
        """Return a socket connected to one publisher, which calls `on_message(frame)`. Raises as `dealer` does."""

    def blocking_dealer(self, endpoint: Endpoint, *, fingerprint: str = "") -> BlockingSocket:
        """Return a socket connected to one router, for one plain thread at a time. Raises as `dealer` does."""

    def look(self, now: float) -> None:
        """Check, if it is due, whether more arrives than is read. Called ten times a second, on the node's loop."""

    def when_grown(self, callback: Callable[[], None]) -> None:
        """Call it, from any thread, when blocking sockets may hold many unrequested messages."""

    def close(self) -> None:
        """Close every socket that is still open; from any thread, when none is in use."""


TransportFactory: TypeAlias = Callable[[str, NetworkSettings], Transport]
"""Makes the transport of a process: given the name of the bus, and the settings `network`. What `create` takes."""
