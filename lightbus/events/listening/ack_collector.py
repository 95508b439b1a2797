"""Collects handled events of one publisher's streams, and acknowledges them together."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any, Protocol

from ...core.streams import UNCONFIRMED, AckPosition, Stream
from ...wire.envelope import Ack, Acked, AnyMessage, Error
from .publisher_requests import PublisherRequests

__all__ = ["AckCollector"]

ACK_AFTER = 0.01
LONGEST_ACK_AFTER = 0.05
"""Seconds for which acknowledgements are collected; doubled under load, up to the second value."""

MUCH = 16
"""Events handled in that time from which on it counts as load."""

_HALF = UNCONFIRMED // 2


class Acknowledges(Protocol):
    """The owner of streams: one listener at this publisher."""

    def ack_message(self, positions: list[Any]) -> Ack:
        """Return the message that acknowledges these positions."""

    def give_turn(self, stream: Stream) -> None:
        """Queue a stream for its next turn, if more of its events may be delivered now."""

    def not_a_member(self) -> None:
        """Record that the publisher does not know us as a member of the group."""


class AckCollector:
    """
    The acknowledgements to one publisher. Only touched from the node's loop.

    Args:
        requests: sends requests, and repeats them until they are answered.
        counts: counts refused acknowledgements.

    """

    def __init__(self, requests: PublisherRequests, counts: Counter[str]) -> None:
        self._requests = requests
        self._counts = counts
        self._streams: set[Stream] = set()
        self._after = ACK_AFTER
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def add(self, stream: Stream) -> None:
        """Acknowledge the handled events of a stream soon, together with those handled until then."""
        self._streams.add(stream)
        unacknowledged = stream.unacknowledged
        # At its limit of unconfirmed events the stream would stop. Half of the limit may stay unconfirmed while none of
        # its events waits.
        if unacknowledged > _HALF or (unacknowledged == _HALF and stream.ready):
            self.flush()
        elif self._timer is None and not self._closed:
            self._timer = self._loop.call_later(self._after, self.flush)

    def flush(self) -> None:
        """Acknowledge all handled events now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        streams, self._streams = self._streams, set()
        is_much = sum([stream.unacknowledged for stream in streams]) >= MUCH
        self._after = min(2 * self._after, LONGEST_ACK_AFTER) if is_much else ACK_AFTER
        by_owner: dict[Acknowledges, list[tuple[Stream, AckPosition]]] = {}
        for stream in streams:
            told = stream.next_ack()
            if told is not None:
                by_owner.setdefault(stream.owner, []).append((stream, told))
        for owner, handled in by_owner.items():
            rows = [[*stream.key, told.sequence] for stream, told in handled]
            answered = partial(self._answered, owner, handled)
            self._requests.ask(partial(owner.ack_message, rows), answered, is_urgent=True)

    def _answered(
        self, owner: Acknowledges, handled: list[tuple[Stream, AckPosition]], answer: AnyMessage | None
    ) -> None:
        if isinstance(answer, Acked):
            self._counts["refused_acks"] += len(answer.refused)
            for stream, told in handled:
                if stream.key[2] not in answer.refused:
                    stream.ack_confirmed(told)
                    owner.give_turn(stream)
                else:
                    stream.ack_failed()  # if the stream is still ours, it is acknowledged again
        else:
            for stream, _ in handled:
                stream.ack_failed()
        if isinstance(answer, Error):
            owner.not_a_member()

    def close(self) -> None:
        """Stop sending acknowledgements."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
