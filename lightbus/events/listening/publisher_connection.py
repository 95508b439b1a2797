"""Our connection to one publisher: a SUB socket for its events, and a DEALER for requests and acknowledgements."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any

from ...core.peers import Peer
from ...exceptions import ProtocolError
from ...ports.transport import Transport
from ...wire import envelope
from ...wire.envelope import PRESENCE_PREFIX, AnyMessage, Assign, Beat, Events, Head, Leave, Marker, Streams
from .ack_collector import AckCollector
from .consumer_context import ConsumerContext
from .listener_queue import ListenerQueue
from .publisher_requests import PublisherRequests
from .stream_intake import StreamIntake
from .subscription import Subscription
from .topic_subscriptions import TopicSubscriptions

__all__ = ["PublisherConnection"]

logger = logging.getLogger("lightbus.listeners")

MAX_TOPICS = 10_000
"""Topics whose parsed names are cached."""


class PublisherConnection:
    """
    Our connection to one publisher. Only touched from the node's loop.

    Args:
        context: shared state of the process.
        transport: makes the sockets.
        peer: the publisher.

    """

    def __init__(self, context: ConsumerContext, transport: Transport, peer: Peer) -> None:
        self.subscriptions: dict[ListenerQueue, Subscription] = {}
        self._named: dict[tuple[str, str], list[Subscription]] = {}
        """The subscriptions by API and group."""
        self._of_api: dict[str, list[Subscription]] = {}
        self._context = context
        self._note_received = context.pace.note_received
        self._presence = PRESENCE_PREFIX + os.urandom(16)
        self._intakes: dict[tuple[str, str], tuple[StreamIntake, ...]] = {}
        """By API and event: the intakes that published events are passed to."""
        self._topics: dict[bytes, tuple[str, str, int]] = {}
        """API, event and partition of topics."""
        self._has_reported_live = False
        self._closed = False
        fingerprint = peer.announcement.fingerprint
        socket = transport.subscriber(peer.event_endpoint, self._on_published, fingerprint=fingerprint)
        socket.subscribe(self._presence)
        on_unsolicited: dict[type, Callable[[Any], None]] = {
            Assign: self._on_assign,
            Beat: self._on_beat,
            Streams: self._on_streams,
        }
        try:
            self._requests = PublisherRequests(transport, peer, on_unsolicited, self._not_handled, context.numbers)
        except BaseException:  # no descriptor is left, for example
            socket.close()
            raise
        self._subscribed = TopicSubscriptions(socket, self._requests)
        self._acks = AckCollector(self._requests, context.counts)
        self._published: dict[type, Callable[[bytes, Any], None]] = {
            Events: self._on_events,
            Marker: self._subscribed.on_marker,
            Head: self._on_head,
        }

    @property
    def peer(self) -> Peer:
        """The publisher, with its latest announcement."""
        return self._requests.peer

    @peer.setter
    def peer(self, peer: Peer) -> None:
        self._requests.peer = peer

    def subscribe(self, queue: ListenerQueue, group: str) -> Subscription:
        """Subscribe a listener to this publisher; return its subscription, the existing one if there is one."""
        subscription = self.subscriptions.get(queue)
        if subscription is None:
            subscription = self.subscriptions[queue] = Subscription(
                self._context,
                self._requests,
                self._subscribed,
                self._acks,
                presence=self._presence,
                queue=queue,
                group=group,
                on_live=self._on_live,
            )
            self._named.setdefault(subscription.name, []).append(subscription)
            self._of_api.setdefault(subscription.assignment.api, []).append(subscription)
            self._intakes.clear()
            subscription.join()
        return subscription

    def unsubscribe(self, queue: ListenerQueue) -> None:
        """
        Unsubscribe a listener: acknowledge what it has handled, and leave its group.

        Not with an event in progress, which was abandoned: the publisher then loses the member after a while, and has
        the event delivered as one that may have been begun.
        """
        subscription = self.subscriptions.pop(queue, None)
        if subscription is not None:
            self._named[subscription.name].remove(subscription)
            self._of_api[subscription.assignment.api].remove(subscription)
            self._intakes.clear()
            self._acks.flush()
            if subscription.assignment.group and not subscription.followed.is_busy:
                self._leave(subscription, lambda answer: None)
            subscription.close()

    def _leave(self, subscription: Subscription, answered: Callable[[AnyMessage | None], None]) -> None:
        message = Leave(*subscription.name)
        self._requests.ask(lambda: message, answered)

    @property
    def is_live(self) -> bool:
        """Whether all topics assigned to our listeners are followed."""
        newest_first = reversed(self.subscriptions.values())
        return bool(self.subscriptions) and all(each.is_live for each in newest_first)

    def _on_live(self) -> None:
        """Record that a listener follows all its assigned topics."""
        self._intakes.clear()
        if not self._has_reported_live and self.is_live:
            self._has_reported_live = True
            extra = {"live_at": self.peer.instance}
            logger.info("Events of %s arrive", self.peer.announcement, extra=extra)

    # Timers

    def tick(self) -> None:
        """
        Send a beat with our partitions, and repeat unanswered requests.

        A lost beat is made up for by the next one. If we have missed an assignment, the publisher answers with one. The
        answer to the beat shows whether we are still a member, and whether we have missed another message.
        """
        self._requests.tick()
        for subscription in self.subscriptions.values():
            subscription.tick()
        members = {each.name: each for each in self.subscriptions.values() if each.assignment.group}
        if members:
            states = [each.state for each in members.values()]
            self._requests.send(Beat([[api, group] for api, group in members], states))

    def join(self) -> None:
        """Request the assignments of all listeners again."""
        for subscription in self.subscriptions.values():
            subscription.join()

    def join_again(self) -> None:
        """Make all listeners join again: other members have their partitions by now."""
        for subscription in list(self.subscriptions.values()):
            subscription.join_again()

    def pause(self) -> None:
        """Pause reading published events."""
        self._subscribed.pause()

    def resume(self) -> None:
        """Resume reading."""
        self._subscribed.resume()

    def read(self) -> bool:
        """Read now what was published, also during a pause; return whether there is more."""
        return self._subscribed.read()

    async def leave(self, seconds: float) -> None:
        """Acknowledge everything, leave the groups, and wait until that is stored; at most so many seconds."""
        self._acks.flush()
        waits: list[asyncio.Future[None]] = []
        for subscription in self.subscriptions.values():
            if subscription.assignment.group and not subscription.followed.is_busy:
                waits.append(done := asyncio.get_running_loop().create_future())
                self._leave(subscription, partial(_finish, done))
        if waits:
            await asyncio.wait(waits, timeout=seconds)

    def close(self) -> None:
        """Close the sockets, and all subscriptions."""
        if self._closed:
            return
        self._closed = True
        self._acks.close()
        for subscription in self.subscriptions.values():
            subscription.close()
        self._subscribed.close()
        self._requests.close()

    # Incoming messages

    def _on_published(self, frame: bytes) -> None:
        message: AnyMessage | None = None
        try:
            topic, message = envelope.decode_published(frame)
            handler = self._published.get(type(message))
            if handler is not None:
                handler(topic, message)
        except Exception as error:
            self._not_handled(message, error)

    def _on_events(self, topic: bytes, message: Events) -> None:
        api, event, partition = self._topics.get(topic) or self._split(topic)
        if not message.records:
            return
        self._note_received(len(message.records))
        intakes = self._intakes.get((api, event))
        for intake in self._find_intakes(api, event) if intakes is None else intakes:
            intake.on_events(event, partition, message)

    def _on_head(self, topic: bytes, message: Head) -> None:
        api, event, partition = self._topics.get(topic) or self._split(topic)
        intakes = self._intakes.get((api, event))
        for intake in self._find_intakes(api, event) if intakes is None else intakes:
            intake.on_head(event, partition, message)

    def _on_beat(self, answer: Beat) -> None:
        known = {
            (api, group): state
            for (api, group), state in zip_longest(answer.groups, answer.states[: len(answer.groups)])
        }
        for subscription in list(self.subscriptions.values()):
            if subscription.name in known:
                if (state := known[subscription.name]) is not None:
                    subscription.intake.catch_up(int(state[0]))
            elif subscription.assignment.group and subscription.assignment.generation:
                subscription.join_again()

    def _on_assign(self, message: Assign) -> None:
        for subscription in list(self._named.get((message.api, message.group), ())):
            subscription.assigned(message)

    def _on_streams(self, message: Streams) -> None:
        for subscription in list(self._named.get((message.api, message.group), ())):
            subscription.intake.on_streams(message)

    def _not_handled(self, message: AnyMessage | None, error: Exception) -> None:
        """Count and log a message that could not be handled; the next message is not affected."""
        self._context.counts["unreadable"] += 1
        if message is None or isinstance(error, ProtocolError):
            self._context.guard.unreadable(self.peer.announcement, error)
        else:
            self._context.guard.failed(self.peer.announcement, message, error)

    def _split(self, topic: bytes) -> tuple[str, str, int]:
        """Return API, event and partition of a topic, and cache them."""
        if len(self._topics) >= MAX_TOPICS:  # no real publisher has so many
            self._topics.clear()
            self._intakes.clear()
        parts = self._topics[topic] = envelope.split_topic(topic)
        return parts

    def _find_intakes(self, api: str, event: str) -> tuple[StreamIntake, ...]:
        """Return the intakes for events of a name, and cache them."""
        found = self._intakes[api, event] = tuple(
            each.intake
            for each in self._of_api.get(api, ())
            if event in each.assignment.events or each.listener.wants(event)
        )
        return found


def _finish(done: asyncio.Future[None], answer: AnyMessage | None) -> None:
    if not done.done():
        done.set_result(None)
