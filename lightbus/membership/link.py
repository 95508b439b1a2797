"""One monitored connection to a worker's ROUTER: it shows whether the peer is up.

A `Dial` tries all addresses of a peer at once, one connection each, and keeps the first that answers HELLO with the
right instance id. (One DEALER connected to several addresses would distribute its messages over them.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..exceptions import LightbusException, PeerRefused, ProtocolError
from ..ports.transport import LinkState, Transport
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import AnyMessage, Drain, Drained, Error, Goodbye, Hello, Peers, Welcome
from .guard import Guard
from .running_clock import RunningClock

__all__ = ["NOTHING_LISTENS", "Dial", "Link", "LinkUser"]

logger = logging.getLogger("lightbus.links")

guard = Guard(logger)

NOTHING_LISTENS = "is not there: nothing listens at its address"
"""The reason for a peer whose host refuses connections: its process has ended, or a firewall rejects them."""

HELLO_TIMEOUT = 2.0
"""
Seconds that an attempt has to connect, and as many again for the answer to HELLO: TCP retransmits lost packets after
one second, and a process that starts among many is slow to answer. Time in which this process does not run is not
counted (`RunningClock`).
"""

LOOK_EVERY = 0.1
"""Seconds between two readings of the clock during an attempt."""

ROUND_TRIPS = 5
"""From the TCP connection to the answer: greeting (RFC 37), two of CurveZMQ (RFC 26), HELLO, one retransmission."""


class LinkUser(Protocol):
    """Informed of the events of a link."""

    def hello(self, target: str) -> Hello:
        """Return the HELLO to send."""

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """The peer answered HELLO, for the first time or again."""

    def on_message(self, link: Link, message: AnyMessage) -> None:
        """The peer pushed a Peers, Drain or Goodbye message."""

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        """The link has failed and is closed."""


class Link:
    """
    One connection. Only touched from the node's loop.

    Attributes:
        endpoint: the endpoint that it is connected to.
        instance: the peer's instance id; empty until the first WELCOME if only the address was known.
        introduced: whether our latest HELLO contained our announcement.
        is_connected: whether the handshake has succeeded: the peer's process is there, whether it answers or not.
        denied: whether it ended because there is no key in common.

    """

    def __init__(
        self,
        user: LinkUser,
        transport: Transport,
        endpoint: str,
        *,
        target: str = "",
        fingerprint: str = "",
        on_reached: Callable[[], None] = lambda: None,
    ) -> None:
        self.endpoint = endpoint
        self.instance = target
        self.established = False
        self.introduced = False
        self.is_connected = False
        self.denied = False
        self._user = user
        self._closed = False
        self._announcement: Announcement | None = None
        """The latest WELCOME."""
        self._on_reached = on_reached
        self._fingerprint = fingerprint
        self._refusal = transport.security.refusal
        self._handlers: dict[type, Callable[[Any], None]] = {
            Welcome: self._on_welcome,
            Error: self._on_error,
            Peers: self._on_pushed,
            Drain: self._on_pushed,
            Goodbye: self._on_pushed,
        }
        self._dealer = transport.dealer(endpoint, self._on_message, fingerprint=fingerprint, on_state=self._on_state)
        self.send_hello()

    def send_hello(self) -> None:
        """Send HELLO; repeated, it shows the worker that this process is still up."""
        hello = self._user.hello(self.instance)
        self._bus = hello.bus
        self.introduced = hello.announcement is not None
        self._send(hello)

    def hand_over(self, user: LinkUser) -> None:
        """Replace the user that is informed of events."""
        self._user = user

    def drained(self) -> None:
        """Send DRAINED: no channel of this process will send new requests."""
        self._send(Drained())

    def close(self, goodbye: str = "") -> None:
        """Close the connection; with our instance id in `goodbye`, send GOODBYE first."""
        if self._closed:
            return
        self._closed = True
        if goodbye and self.established:
            self._dealer.send(envelope.encode(Goodbye(goodbye)))
            self._dealer.flush_and_close(100)
        else:
            self._dealer.close()

    def abandon(self) -> None:
        """Close the connection after its loop was closed."""
        self._closed = True
        self._dealer.abandon()

    def _send(self, message: AnyMessage) -> None:
        if self._closed:  # the caller may have awaited something meanwhile
            return
        frame = envelope.encode(message)
        if not self._dealer.send(frame):
            self._dealer.send_later(frame)

    def _on_message(self, frame: bytes) -> None:
        try:
            _, message = envelope.decode(frame)
            self._handlers.get(type(message), self._misplaced)(message)
        except ProtocolError as error:
            self._end(f"sent an invalid message: {error}")
        except Exception as error:
            guard.failed(self.endpoint, "the announcement of a peer, or what it knows of others", error)

    def _on_pushed(self, message: AnyMessage) -> None:
        if self.established:
            self._user.on_message(self, message)

    def _on_error(self, error: Error) -> None:
        self._end(f"refused us: {error.message:.500}")

    def _misplaced(self, message: AnyMessage) -> None:
        raise ProtocolError(f"A {type(message).__name__} message does not belong on a link.")

    def _on_welcome(self, welcome: Welcome) -> None:
        announcement = Announcement.from_wire(welcome.announcement, self._announcement)
        if self.instance and announcement.instance != self.instance:
            self._end("is another process now", refused=True)
            return
        if announcement.bus != self._bus:
            self._end(f"is on the bus '{announcement.bus}'")
            return
        if self._fingerprint not in ("", announcement.fingerprint):  # further sockets use the announced key
            self._end(f"says that its key is {announcement.fingerprint or 'none'}, and uses {self._fingerprint}")
            return
        self.instance = announcement.instance
        self._announcement = announcement
        self.established = True
        self._user.on_established(self, announcement, welcome)

    def _on_state(self, state: LinkState) -> None:
        if state is LinkState.CONNECTED:
            self.is_connected = True
            return
        if state is LinkState.REACHED:
            self._on_reached()
            return
        if state is LinkState.REFUSED:
            self._end(NOTHING_LISTENS, refused=True)
        elif state is LinkState.DENIED:
            self.denied = True
            self._end(f"breaks off the handshake: {self._refusal}")
        else:
            self._end("went away" if self.established else f"cannot be connected to ({state.value})")

    def _end(self, reason: str, *, refused: bool = False) -> None:
        if not self._closed:
            self.close()
            self._user.on_closed(self, reason, refused=refused)


class Dial:
    """
    One attempt to reach a peer, at all of its addresses at once. Only touched from the node's loop.

    Args:
        user: the node; it is informed only of the link that succeeds.
        target: the expected instance id, or empty.
        endpoints: the addresses to try.
        on_done: called once: with the link that succeeded, or with None, the reason, and whether all addresses refused.

    Attributes:
        denied: whether a peer with another key answered.
        is_connected: whether a connection was there, and HELLO was not answered in time.

    """

    def __init__(
        self,
        user: LinkUser,
        transport: Transport,
        endpoints: Sequence[str],
        on_done: Callable[[Dial, Link | None, str, bool], None],
        *,
        target: str = "",
        fingerprint: str = "",
    ) -> None:
        self.target = target
        self.endpoints = tuple(endpoints)
        self._user = user
        self._on_done = on_done
        self._reason = "does not answer"
        self._all_refused = True
        self.denied = False
        self.is_connected = False
        self._done = False
        loop = self._loop = asyncio.get_running_loop()
        self._clock = RunningClock(loop.time)
        self._until = HELLO_TIMEOUT
        self._timer = loop.call_later(min(LOOK_EVERY, self._until), self._look)
        self._links: list[Link] = []
        for endpoint in endpoints:
            try:
                self._links.append(self._link(transport, endpoint, fingerprint))
            except PeerRefused as error:
                self.denied, self._reason = True, f"is not asked: {error}"
            except LightbusException as error:
                self._reason = str(error)
        if not self._links:
            loop.call_soon(self._give_up)

    def _link(self, transport: Transport, endpoint: str, fingerprint: str) -> Link:
        return Link(
            self, transport, endpoint, target=self.target, fingerprint=fingerprint, on_reached=self._has_reached
        )

    def _has_reached(self) -> None:
        """Extend the timeout by the round trip that was just measured, for the round trips still to come."""
        if not self._done:
            round_trip = self._clock.read()
            self._until = round_trip + HELLO_TIMEOUT + ROUND_TRIPS * round_trip

    def _look(self) -> None:
        left = self._until - self._clock.read()
        if left <= 0:
            self._give_up()
        else:
            self._timer = self._loop.call_later(min(LOOK_EVERY, left), self._look)

    def close(self) -> None:
        """Stop trying."""
        self._done = True
        self._timer.cancel()
        for link in self._links:
            link.close()
        self._links.clear()

    def abandon(self) -> None:
        """Stop trying, on a loop that is closed."""
        self._done = True
        for link in self._links:
            link.abandon()
        self._links.clear()

    # LinkUser, until one of the links succeeds

    def hello(self, target: str) -> Hello:
        """Return the HELLO of the node."""
        return self._user.hello(target)

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """Keep the first link that is established, and close the others."""
        if self._done:
            return
        self._links.remove(link)
        self.close()
        link.hand_over(self._user)
        self._on_done(self, link, "", False)
        self._user.on_established(link, announcement, welcome)

    def on_message(self, link: Link, message: AnyMessage) -> None:
        """Do nothing: no messages are pushed before WELCOME."""

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        """Record that one address failed; end the attempt when the last one has."""
        if self._done:
            return
        if link.denied or not self.denied:  # a peer that refuses us is up: a better reason than an address without one
            self._reason = reason
        self.denied = self.denied or link.denied
        self._all_refused = self._all_refused and refused
        self._links.remove(link)
        if not self._links:
            self._finish(self._all_refused)

    def _give_up(self) -> None:
        if not self._done:
            self.is_connected = any(link.is_connected for link in self._links)
            self._finish(False)

    def _finish(self, refused: bool) -> None:
        self.close()
        self._on_done(self, None, self._reason, refused)
