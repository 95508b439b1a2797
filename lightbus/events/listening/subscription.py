"""
A listener's subscription at one publisher: its membership in its group there.

It joins, is assigned partitions, follows their topics (`TopicOpening`), and joins again when the publisher does not
know it any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from ...wire.envelope import AnyMessage, Assign, Error, Join
from ...wire.sizes import most
from .ack_collector import AckCollector
from .assignment import Assignment
from .consumer_context import ConsumerContext
from .followed_streams import FollowedStreams
from .listener_queue import ListenerQueue
from .publisher_requests import PublisherRequests
from .stream_intake import StreamIntake
from .topic_opening import TopicOpening
from .topic_subscriptions import TopicSubscriptions

__all__ = ["Subscription"]

logger = logging.getLogger("lightbus.listeners")

POSITION_BYTES = 1024
"""Largest size, in bytes, of one position in a JOIN."""

JOIN_AGAIN_AFTER = 0.5
"""Seconds between two attempts to join a group at a publisher that refuses."""


class Subscription:
    """
    One listener at one publisher. Only touched from the node's loop.

    Args:
        context: shared state of the process.
        requests: sends requests to the publisher.
        topics: our topic subscriptions at the publisher.
        acks: collects acknowledgements.
        presence: the topic by which the publisher sees that we are connected.
        queue: the listener's queue.
        group: the group's name; empty for a listener without a group.
        on_live: called when all assigned topics are followed.

    Attributes:
        assignment: our assignment at this publisher.
        followed: the followed streams.
        intake: receives published events.
        live_at: done as soon as all topics of the first assignment are followed.

    """

    def __init__(
        self,
        context: ConsumerContext,
        requests: PublisherRequests,
        topics: TopicSubscriptions,
        acks: AckCollector,
        *,
        presence: bytes,
        queue: ListenerQueue,
        group: str,
        on_live: Callable[[], None],
    ) -> None:
        self.listener = queue.listener
        self.assignment = Assignment(self.listener.api, group, self.listener.since)
        self.followed = FollowedStreams(self.assignment, queue, requests, acks, context, self.join_again)
        self.intake = StreamIntake(self.assignment, self.followed, queue, requests, context)
        self._opening = TopicOpening(
            self.assignment, self.intake, requests, topics, self._complete, self._join_again_later
        )
        self.live_at: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._context = context
        self._requests = requests
        self._presence = presence
        self._on_live = on_live
        self._closed = False
        self._is_joining = False
        self._is_outdated = False
        """Whether to join again after the answer."""
        self._refusal = ""

    @property
    def name(self) -> tuple[str, str]:
        """The API, and the group."""
        return self.assignment.api, self.assignment.group

    @property
    def is_live(self) -> bool:
        """Whether all assigned topics are followed, and there was an assignment."""
        return self.live_at.done() and self.assignment.is_complete

    @property
    def state(self) -> list[Any]:
        """Our assignment: the generation, and the partitions that we have not given back."""
        return [self.assignment.generation, self.followed.partitions]

    def join(self) -> None:
        """Join the group, or fetch our assignment again."""
        if self._closed:
            return
        if self._is_joining:
            self._is_outdated = True
            return
        self._is_joining, self._is_outdated = True, False
        self._requests.ask(self._join_message, self._joined)

    def join_again(self) -> None:
        """Drop our assignment, and join again: the publisher does not know us any more."""
        if not self._closed:
            self._drop_all()
            self.join()

    def _join_again_later(self, generation: int) -> None:
        """Join again after a while, unless there is a new assignment by then."""

        def join_again() -> None:
            if self.assignment.generation == generation:
                self.join_again()

        asyncio.get_running_loop().call_later(JOIN_AGAIN_AFTER, join_again)

    def _join_message(self) -> Join | None:
        if self._closed:
            return None
        identity, records, listener = self._context.identity, self._context.records, self.listener
        announcement = self._requests.peer.announcement
        room = most(self._requests.max_message_size, announcement.max_message_size) // POSITION_BYTES
        return Join(
            announcement.instance,
            *self.name,
            list(listener.events),
            identity.instance,
            identity.host,
            self._presence,
            records.created_at(*self.name),
            time.time(),
            listener.digest,
            listener.since,
            records.positions_of(*self.name)[-room:],  # without the others, some events are handled twice
            self._requests.max_message_size,
        )

    def _joined(self, answer: AnyMessage | None) -> None:
        self._is_joining = False
        if self._is_outdated:
            self.join()
        elif isinstance(answer, Assign):
            self._refusal = ""
            # A group that was created again counts its generations from the start.
            self.assignment.generation = min(self.assignment.generation, answer.generation)
            self.assigned(answer)
        elif not self._closed:
            reason = answer.message if isinstance(answer, Error) else "it does not answer"
            if reason != self._refusal:
                self._refusal = reason
                publisher = self._requests.peer.announcement
                logger.info(
                    "%s did not let the listener %s join its group; it tries again in %g s: %s",
                    publisher,
                    self.listener,
                    JOIN_AGAIN_AFTER,
                    reason,
                )
            asyncio.get_running_loop().call_later(JOIN_AGAIN_AFTER, self.join)

    def assigned(self, message: Assign) -> None:
        """Apply an assignment. Repetitions change nothing."""
        if self._closed or message.generation < self.assignment.generation:
            return
        self._context.records.learn(*self.name, message)
        partitions, pairs = self.assignment.change(message)
        self._opening.leave(pairs)
        self.intake.assigned()
        if partitions:
            self.followed.release(partitions)
        self._opening.follow()

    def tick(self) -> None:
        """Repeat what failed: follow our topics, fetch missing events, acknowledge handled ones."""
        if not self.assignment.is_complete:
            self._opening.follow()
        self.intake.ask_for_missing()
        self.followed.tick()

    def _complete(self) -> None:
        if not self.live_at.done():
            self.live_at.set_result(None)
        self._on_live()

    def _drop_all(self) -> None:
        self.assignment.clear()
        self.intake.clear()
        self._opening.clear()
        self.followed.drop_all()

    def close(self) -> None:
        """Stop following: the publisher is gone, or the listener."""
        if not self._closed:
            self._drop_all()
            self._closed = True
            self.followed.close()
            self.live_at.cancel()
