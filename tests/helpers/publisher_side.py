"""The other end of a connection to a publisher: records requests and subscriptions, and answers as the test says."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from lightbus.core.peers import Peer, PeerState, Source
from lightbus.events.groups.group_records import GroupRecords
from lightbus.events.listening.consumer_context import ConsumerContext
from lightbus.events.listening.loss_reports import LossReports
from lightbus.events.listening.publisher_requests import PublisherRequests
from lightbus.events.listening.reading_pace import ReadingPace
from lightbus.membership.context import Identity
from lightbus.membership.guard import Guard
from lightbus.wire import envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import AnyMessage, Streams

from .listeners import Context

__all__ = ["JOURNAL", "MEMBER", "PUBLISHER", "PublisherSide", "consumer_context"]

MEMBER, PUBLISHER = "c" * 16, "a" * 16
JOURNAL = "0000000000000001"


class PublisherSide:
    """
    What a listener connects with, and the publisher behind it.

    Attributes:
        unsolicited: the messages that it sent without a request.
        not_handled: the listener's messages that could not be read (None), or handled.
        said: what it was told, with the number of the question; what was read is taken out by `heard`.
        prefixes: what it is subscribed to.
        is_up: whether the connection is open; until then frames wait.

    """

    max_message_size = 2**20

    def __init__(self) -> None:
        self.said: list[tuple[int, AnyMessage]] = []
        self.prefixes: list[bytes] = []
        self.is_up = True
        self.is_paused = False
        self.later: list[bytes] = []
        self.publish: Callable[[bytes], None] = lambda frame: None
        self.reply: Callable[[bytes], None] = lambda frame: None
        self.unsolicited: list[AnyMessage] = []
        self.not_handled: list[tuple[AnyMessage | None, Exception]] = []

    @property
    def peer(self) -> Peer:
        """The publisher as the listener knows it."""
        return Peer(
            announcement=Announcement(
                bus="b", instance=PUBLISHER, service="pub", process="p", host="h", api_names=("auth",)
            ),
            state=PeerState.UP, source=Source.SEED, changed_at=0.0,
            endpoint="mem://rpc", event_endpoint="mem://pub",
        )  # fmt: skip

    def requests(self) -> PublisherRequests:
        """Return the listener's requests to it."""
        transport: Any = self
        unsolicited: dict[type, Callable[[Any], None]] = {Streams: self.unsolicited.append}
        return PublisherRequests(
            transport, self.peer, unsolicited, lambda *what: self.not_handled.append(what), itertools.count(1)
        )

    def heard(self) -> list[AnyMessage]:
        """Return its new messages since the last call."""
        said, self.said = self.said, []
        return [message for _, message in said]

    # As the transport, and as both sockets

    def dealer(self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str) -> PublisherSide:
        self.reply = on_message
        return self

    def subscriber(self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str) -> PublisherSide:
        self.publish = on_message
        return self

    def send(self, frame: bytes) -> bool:
        if self.is_up:
            self.said.append(envelope.decode(frame))
        return self.is_up

    def send_later(self, frame: bytes) -> None:
        self.later.append(frame)

    def subscribe(self, prefix: bytes) -> None:
        self.prefixes.append(prefix)

    def unsubscribe(self, prefix: bytes) -> None:
        self.prefixes.remove(prefix)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        pass

    def flush_and_close(self, milliseconds: int) -> None:
        pass


def consumer_context() -> ConsumerContext:
    """Return the context of connections in a process without listeners."""
    counts: Counter[str] = Counter()
    return ConsumerContext(
        identity=Identity(bus="b", service="shop", process="p", instance=MEMBER, host="h"),
        records=GroupRecords(),
        losses=LossReports(Context(), counts),
        pace=ReadingPace({}, []),
        guard=Guard(logging.getLogger("lightbus.listeners")),
        counts=counts,
    )
