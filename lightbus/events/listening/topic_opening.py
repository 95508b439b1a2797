"""
Begins to follow the assigned topics of one listener at one publisher, without missing an event.

First subscribe to the topics, then await the marker that shows that the subscription is in force, and only then fetch
the positions. In any other order an event could be published after the positions are read and before the subscription
is in force. Events that arrive in between are after the positions, or noticed as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...wire import envelope
from ...wire.envelope import PARTITIONS, AnyMessage, Streams
from .assignment import Assignment, Pair
from .publisher_requests import PublisherRequests
from .stream_intake import StreamIntake
from .topic_subscriptions import TopicSubscriptions

__all__ = ["TopicOpening"]


class TopicOpening:
    """
    The topics that are subscribed to, or about to be followed. Only touched from the node's loop.

    Args:
        assignment: our assignment at this publisher.
        intake: receives the positions of topics.
        requests: sends requests to the publisher.
        topics: the topic subscriptions at this publisher.
        on_complete: called when all assigned topics are followed.
        on_refused: called with the generation of the group when the publisher does not send the positions.

    """

    def __init__(
        self,
        assignment: Assignment,
        intake: StreamIntake,
        requests: PublisherRequests,
        topics: TopicSubscriptions,
        on_complete: Callable[[], None],
        on_refused: Callable[[int], None],
    ) -> None:
        self._assignment = assignment
        self._intake = intake
        self._requests = requests
        self._topics = topics
        self._on_complete = on_complete
        self._on_refused = on_refused
        self._subscribed: set[Pair] = set()
        self._asking: dict[Pair, object] = {}
        """The pairs that are about to be followed, each with its attempt."""

    def follow(self) -> None:
        """Subscribe to assigned topics that are not followed yet; once that is in force, fetch their positions."""
        new = self._assignment.pairs - self._assignment.followed - self._asking.keys()
        if new:
            attempt = object()
            self._asking.update(dict.fromkeys(new, attempt))
            self._subscribed |= new
            self._topics.set_topics(self, self._prefixes())
            self._topics.when_in_force(lambda: self._ask(attempt), lambda: bool(self._attempted(attempt)))
        elif self._assignment.is_complete:
            self._on_complete()

    def _attempted(self, attempt: object) -> set[Pair]:
        """Return the topics of an attempt; without those that were revoked since, even if they are ours again."""
        return {pair for pair, other in self._asking.items() if other is attempt}

    def _ask(self, attempt: object) -> None:
        size = self._requests.max_message_size
        self._requests.ask(
            lambda: self._assignment.question(self._attempted(attempt), size),
            lambda answer: self._answered(attempt, answer),
        )

    def _answered(self, attempt: object, answer: AnyMessage | None) -> None:
        pairs = self._attempted(attempt)
        for pair in pairs:
            del self._asking[pair]
        if isinstance(answer, Streams):
            # Topics that the publisher has assigned to others, or that do not fit in the answer, are fetched again.
            partitions = set(answer.partitions)
            self._assignment.followed |= {pair for pair in pairs if pair[1] in partitions}
            self._intake.on_streams(answer)
            if partitions or self._assignment.is_complete:
                self.follow()
            self._intake.ask_for_missing()
        elif answer is not None and pairs:
            self._on_refused(self._assignment.generation)

    def leave(self, pairs: Iterable[Pair]) -> None:
        """Stop following these pairs."""
        gone = set(pairs)
        self._assignment.followed -= gone
        for pair in gone & self._asking.keys():
            del self._asking[pair]
        if gone & self._subscribed:
            self._subscribed -= gone
            self._topics.set_topics(self, self._prefixes())

    def clear(self) -> None:
        """Unsubscribe from all topics."""
        self._asking.clear()
        self._subscribed.clear()
        self._topics.set_topics(self, ())

    def _prefixes(self) -> list[bytes]:
        """Return the prefixes to subscribe to: one per event if we have all its partitions, else one per partition."""
        by_event: dict[str, list[int]] = {}
        for event, partition in self._subscribed:
            by_event.setdefault(event, []).append(partition)
        api = self._assignment.api
        prefixes = []
        for event, partitions in by_event.items():
            if len(partitions) == PARTITIONS:
                prefixes.append(envelope.subscription(api, event))
            else:
                prefixes += [envelope.event_topic(api, event, partition) for partition in partitions]
        return prefixes
