"""One monitored connection to a worker's ROUTER: how we learn that a peer is there, and that it no longer is.

A `Dial` tries every address of a peer at once, a connection each, and keeps the first that answers HELLO with the
right instance id. (One DEALER connected to several addresses would spread its messages over them.)
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
"""Said of a peer whose host refuses connections to it: it has ended there, or a firewall says so."""

HELLO_TIMEOUT = 2.0
"""
Seconds that an attempt has to reach somebody, and again as many for an answer to HELLO: TCP says again after one what
got lost, and a process that starts among many is slow to answer. While we do not run ourselves they do not pass.
"""

LOOK_EVERY = 0.1
"""Seconds between two looks at the clock, during an attempt."""

ROUND_TRIPS = 5
"""From the connection of TCP on to the answer: greeting (RFC 37), two of CurveZMQ (RFC 26), HELLO, and one repeated."""


class LinkUser(Protocol):
    """Informed of the events of a link."""

    def hello(self, target: str) -> Hello:
        """Return what to introduce ourselves with."""

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """The peer answered HELLO, for the first time or again."""

    def on_message(self, link: Link, message: AnyMessage) -> None:
        """The peer pushed a Peers, Drain or Goodbye message."""

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        """The link is of no use any more, and closed."""


class Link:
    """
    One connection. Only touched from the node's loop.

    Attributes:
        endpoint: where it leads.
        instance: whose it is; empty until the first WELCOME where only the address was known.
        introduced: whether our latest HELLO had our present announcement.
        denied: whether it ended since we have no key in common.

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
        """Send HELLO; repeated, it shows the worker that we are still there."""
        hello = self._user.hello(self.instance)
        self._bus = hello.bus
        self.introduced = hello.announcement is not None
        self._send(hello)

    def hand_over(self, user: LinkUser) -> None:
        """Inform another user from now on."""
        self._user = user

    def drained(self) -> None:
        """Confirm that none of our channels will send anything new."""
        self._send(Drained())

    def close(self, goodbye: str = "") -> None:
        """Close; with our instance id in `goodbye`, say so first."""
        if self._closed:
            return
        self._closed = True
        if goodbye and self.established:
            self._dealer.send(envelope.encode(Goodbye(goodbye)))
            self._dealer.flush_and_close(100)
        else:
            self._dealer.close()

    def abandon(self) -> None:
        """Close a link whose loop was closed before it."""
        self._closed = True
        self._dealer.abandon()

    def _send(self, message: AnyMessage) -> None:
        if self._closed:  # while somebody was waited for, before this was to be said
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
        self._end(f"refused us: {error.message}")

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
        if self._fingerprint not in ("", announcement.fingerprint):  # our other sockets are made by what it says
            self._end(f"says that its key is {announcement.fingerprint or 'none'}, and speaks {self._fingerprint}")
            return
        self.instance = announcement.instance
        self._announcement = announcement
        self.established = True
        self._user.on_established(self, announcement, welcome)

    def _on_state(self, state: LinkState) -> None:
        if state is LinkState.CONNECTED:
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
            self._end("went away" if self.established else f"cannot be spoken with ({state.value})")

    def _end(self, reason: str, *, refused: bool = False) -> None:
        if not self._closed:
            self.close()
            self._user.on_closed(self, reason, refused=refused)


class Dial:
    """
    One attempt to reach a peer, at all of its addresses at once. Only touched from the node's loop.

    Args:
        user: the node; it is informed only of the link that succeeds.
        target: the instance id expected, or empty.
        endpoints: where to try.
        on_done: called once with the winning link and None, or with None and the reason, and whether all refused.

    Attributes:
        denied: whether a peer with another key is there.

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
        """Be as patient as the way is long: how long one round trip takes is known now, and there are more to come."""
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

    # As the user of its links, until one of them wins

    def hello(self, target: str) -> Hello:
        """Introduce ourselves as the node would."""
        return self._user.hello(target)

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        """The first to answer wins."""
        if self._done:
            return
        self._links.remove(link)
        self.close()
        link.hand_over(self._user)
        self._on_done(self, link, "", False)
        self._user.on_established(link, announcement, welcome)

    def on_message(self, link: Link, message: AnyMessage) -> None:
        """Nothing is pushed before WELCOME."""

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        """One address is out; when the last one is, the attempt is over."""
        if self._done:
            return
        if link.denied or not self.denied:  # whoever refuses us is there: that counts for more than who is not
            self._reason = reason
        self.denied = self.denied or link.denied
        self._all_refused = self._all_refused and refused
        self._links.remove(link)
        if not self._links:
            self._finish(self._all_refused)

    def _give_up(self) -> None:
        if not self._done:
            self._finish(False)

    def _finish(self, refused: bool) -> None:
        self.close()
        self._on_done(self, None, self._reason, refused)
