"""Handles HELLO: checks and answers it, and adds its sender to the connected engines."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import PeerRefused, ProtocolError
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import AnyMessage, Drain, Error, Hello, Peers, Welcome
from ..wire.sizes import NO_LIMIT, most
from .connected import ConnectedEngines
from .context import Identity

__all__ = ["MAX_ENGINES", "Introductions", "NodeView"]

logger = logging.getLogger("lightbus.binding")

MAX_ENGINES = 4096

KEPT_FOR = 1.0
"""Seconds for which the encoded message of known peers is reused; the ages in it are off by up to this."""

FAREWELL = 1.0
"""Seconds that connected engines have to read the last messages before the sockets are closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What a worker reports of its node, and the callbacks to it."""

    announcement: Callable[[], Announcement]
    """Returns the announcement that peers get."""
    peers_digest: Callable[[], str]
    verified: Callable[[], list[tuple[Announcement, float]]]
    """Returns the peers that are connected to this process, each with the seconds since its last message."""
    known: Callable[[str], Announcement | None]
    """Returns the latest announcement of an instance, or None."""
    claimed: Callable[[Announcement], None]
    """Called with an announcement that a peer sent of itself."""


class Introductions:
    """
    The worker's side of introductions. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        view: what to report of this process and of its peers.
        send: sends a frame to a routing id; False if its connection is closed.

    Attributes:
        engines: the engines that sent HELLO.
        draining: whether this worker refuses new requests.

    """

    def __init__(self, identity: Identity, view: NodeView, send: Callable[[bytes, bytes], bool]) -> None:
        self.engines = ConnectedEngines(send)
        self.draining = False
        self.counts: Counter[str] = Counter()
        """hellos, refused_hellos, ignored_hellos."""
        self._identity = identity
        self._view = view
        self._send = send
        self._encoded = b""
        """The encoded message of the known peers."""
        self._encoded_of: list[Announcement] = []
        self._encoded_until = 0.0
        self._measured: Announcement | None = None
        self._welcome_size = 0
        """The bytes of a WELCOME with the `_measured` announcement."""

    def on_hello(self, routing_id: bytes, hello: Hello) -> None:
        """Answer with our announcement, and with the known peers if the sender knows others and was not sent these."""
        if (refusal := self._reason_to_refuse(routing_id, hello)) is not None:
            self.counts["refused_hellos"] += 1
            self._reply(routing_id, Error(PeerRefused.code, refusal, False, {}))
            return
        now = time.monotonic()
        is_new = self.engines.on_hello(routing_id, hello, now)
        if self.engines.is_flooding(routing_id, now):
            self.counts["ignored_hellos"] += 1  # unread answers would fill the memory
            return
        self.counts["hellos"] += is_new
        self._reply(routing_id, self._welcome())
        if hello.peers_digest != self._view.peers_digest():
            self._tell_known_peers(routing_id, hello, now)
        if is_new and self.draining:
            self._reply(routing_id, Drain())
        if hello.announcement is not None:
            with contextlib.suppress(ProtocolError):
                announcement = Announcement.from_wire(hello.announcement, self._view.known(hello.instance))
                if announcement.instance == hello.instance:  # a peer may only announce itself
                    self._view.claimed(announcement)

    # Messages to connected engines

    def announce(self) -> None:
        """Send our announcement to every connected engine."""
        self.engines.push(self._welcome())

    def announce_changes(self, joined: list[Announcement], left: list[str]) -> None:
        """Send every connected engine the peers that joined and left."""
        self.engines.push(Peers([[announcement.to_wire(), 0.0] for announcement in joined], left))

    async def drain(self, seconds: float) -> None:
        """Wait until every connected engine has confirmed that it sends no new requests; at most so many seconds."""
        self.draining = True
        if missing := await self.engines.drain(seconds):
            logger.info(
                "Not all callers have confirmed that they send no more calls: %s",
                ", ".join(sorted({*map(str, missing)})),
            )

    async def send_goodbye(self) -> None:
        """
        Send GOODBYE, and wait until every engine has answered it; at most a second.

        Closing a connection drops what the other end has not read. So the other ends close first, after reading it.
        """
        self.draining = True
        await self.engines.part(self._identity.instance, FAREWELL)

    def _reason_to_refuse(self, routing_id: bytes, hello: Hello) -> str | None:
        if hello.bus != self._identity.bus:
            return f"this is the bus '{self._identity.bus}', not '{hello.bus}'."
        if hello.target not in ("", self._identity.instance):
            return f"this is the instance {self._identity.instance}, not {hello.target}."
        if self.engines.instance_of(routing_id) not in (None, hello.instance):
            return f"the instance {self.engines.instance_of(routing_id)} has sent HELLO through this connection before."
        if len(self.engines) >= MAX_ENGINES and routing_id not in self.engines:
            return f"{len(self.engines)} processes are connected already."
        if (size := self._size_of_welcome()) > (limit := most(NO_LIMIT, hello.max_message_size)):
            # libzmq would close the connection there, for no reason that anybody could see.
            return (
                f"what this worker says of itself takes {size} bytes, and you take messages of {limit}: raise "
                "network.max_message_size."
            )
        return None

    def _size_of_welcome(self) -> int:
        announcement = self._view.announcement()
        if announcement is not self._measured:
            self._measured, self._welcome_size = announcement, len(envelope.encode(self._welcome()))
        return self._welcome_size

    def _welcome(self) -> Welcome:
        announcement = self._view.announcement()
        return Welcome(announcement.to_wire(), self._view.peers_digest(), time.time(), self.draining)

    def _tell_known_peers(self, routing_id: bytes, hello: Hello, now: float) -> None:
        """Send the known peers, encoded once for all who ask while they stay the same, unless it was sent these."""
        verified = self._view.verified()
        peers = [announcement for announcement, _ in verified]
        if peers == self._encoded_of:
            peers = self._encoded_of  # one list for all engines that are sent it
        if self.engines.has_been_told(routing_id, peers, hello.peers_digest, now):
            return
        if now >= self._encoded_until or peers is not self._encoded_of:
            self._encoded = envelope.encode(Peers([[each.to_wire(), age] for each, age in verified], []))
            self._encoded_of, self._encoded_until = peers, now + KEPT_FOR
        limit = most(NO_LIMIT, hello.max_message_size)
        frames = [self._encoded] if len(self._encoded) <= limit else _in_parts(verified, limit)
        if all(self._send(routing_id, frame) for frame in frames):
            self.engines.note_told(routing_id, peers, hello.peers_digest, now)

    def _reply(self, routing_id: bytes, message: AnyMessage) -> None:
        self._send(routing_id, envelope.encode(message))


def _in_parts(verified: Sequence[tuple[Announcement, float]], limit: int) -> list[bytes]:
    """
    Return messages with the known peers, of at most `limit` bytes each.

    A peer that fits into none is left out: the receiver could not read its WELCOME, either.
    """
    parts: list[list[list[Any]]] = []
    left = 0
    for announcement, age in verified:
        row = [announcement.to_wire(), age]
        size = len(envelope.encode(Peers([row], [])))
        if size > limit:
            continue
        if size > left:
            parts.append([])
            left = limit
        parts[-1].append(row)
        left -= size
    return [envelope.encode(Peers(rows, [])) for rows in parts]
