"""Our connection to one publisher: a SUB for what it publishes, and a DEALER for what we ask and acknowledge."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ..core.peers import Peer
from ..core.streams import UNCONFIRMED, Stream
from ..exceptions import ProtocolError
from ..ports.transport import Transport
from ..recurring import RecurringLog
from ..wire import envelope
from ..wire.envelope import (
    PRESENCE_PREFIX,
    Ack,
    Acked,
    Assign,
    Beat,
    Error,
    Events,
    Head,
    Leave,
    Marker,
    Message,
    Streams,
)
from .listener_queue import ListenerQueue
from .requests import Answer, Requests
from .subscription import Subscription

if TYPE_CHECKING:
    from .consumer import Consumer

__all__ = ["PublisherConnection"]

logger = logging.getLogger("lightbus.consuming")

ACK_AFTER = 0.01
LONGEST_ACK_AFTER = 0.05
"""Seconds in which acknowledgements are collected: more while there is much to do, up to the second."""

MUCH = 16
"""Events handled in that time that are much."""

MAX_MARKERS = 4
"""Markers that are waited for at a time by one who asks for them again and again: each of them would do."""

MAX_TOPICS = 10_000
"""Topics whose parts are remembered."""


class PublisherConnection:
    """Our connection to one publisher. Only touched from the node's loop."""

    def __init__(self, consumer: Consumer, transport: Transport, peer: Peer) -> None:
        self.peer = peer
        self.consumer = consumer
        self.claims: dict[ListenerQueue, Subscription] = {}
        self._failures = RecurringLog(logger)
        self.presence = PRESENCE_PREFIX + os.urandom(16)
        self._by_event: dict[tuple[str, str], tuple[Subscription, ...]] = {}
        self._topics: dict[bytes, tuple[str, str, int]] = {}
        self._markers: dict[bytes, int] = {}
        """Per topic the number of the request that it answers."""
        self._subscriptions: Counter[bytes] = Counter()
        self._of_claims: dict[Subscription, list[bytes]] = {}
        self._requests = Requests()
        self._to_acknowledge: set[Stream] = set()
        self._ack_after = ACK_AFTER
        self._timer: asyncio.TimerHandle | None = None
        self._told_live = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        fingerprint = peer.announcement.fingerprint
        self._sub = transport.subscriber(peer.event_endpoint, self._on_frame, fingerprint=fingerprint)
        self._dealer = transport.dealer(peer.endpoint, self._on_message, fingerprint=fingerprint)
        self._sub.subscribe(self.presence)
        self.max_message_size = transport.max_message_size
        """Bytes that a message to us may have: the publisher is told."""

    def claim(self, queue: ListenerQueue, group: str) -> Subscription:
        """Have a listener follow this publisher; return its claim, the same one if it does already."""
        claim = self.claims.get(queue)
        if claim is None:
            claim = self.claims[queue] = Subscription(self, queue, group)
            self._by_event.clear()
            claim.join()
        return claim

    def drop(self, queue: ListenerQueue) -> None:
        """Have a listener follow this publisher no more: what it has handled is acknowledged, and its group left."""
        claim = self.claims.pop(queue, None)
        if claim is not None:
            self._by_event.clear()
            self.flush()
            if claim.group:
                message = Leave(claim.api, claim.group)
                self.ask(lambda: message, lambda _: None)
            claim.close()

    @property
    def is_live(self) -> bool:
        """Whether all that is assigned to our listeners arrives."""
        return bool(self.claims) and all(claim.is_live for claim in self.claims.values())

    def claim_is_live(self) -> None:
        """Record that a claim follows all that was assigned to it."""
        self._by_event.clear()
        if not self._told_live and self.is_live:
            self._told_live = True
            extra = {"live_at": self.peer.instance}
            logger.info("Events of %s arrive", self.peer.announcement, extra=extra)

    # Asking

    def now(self) -> float:
        """Return the time in seconds of a clock that is never put right."""
        return self._loop.time()

    def ask(self, make: Callable[[], Message | None], answer: Answer, *, is_urgent: bool = False) -> None:
        """
        Send something until it is answered.

        Args:
            make: returns what to send, each time as it is right by then; None where it is not wanted any more.
            answer: is given the answer, or None where there will be none.
            is_urgent: whether a listener stands still until it is answered, so that it is sent again early.

        """

        def say(call_id: int) -> bool:
            message = None if self._closed else make()
            if message is not None:
                self.send(message, call_id)
            return message is not None

        seconds = self._requests.ask(say, answer, self._loop.time(), is_urgent=is_urgent)
        if is_urgent:
            self._loop.call_later(seconds, self._ask_again, seconds)

    def _ask_again(self, after: float) -> None:
        """Ask again what is urgent, sooner than the tick would."""
        self._requests.tick(self._loop.time())
        seconds = self._requests.next_look(after)
        if seconds is not None:
            self._loop.call_later(seconds, self._ask_again, seconds)

    def send(self, message: Message, call_id: int = 0) -> None:
        """Send something."""
        frame = envelope.encode(message, call_id)
        if not self._closed and not self._dealer.send(frame):
            self._dealer.send_later(frame)

    def when_marked(self, callback: Callable[[], None], wanted: Callable[[], bool]) -> None:
        """Call back once all that we are subscribed to now is in force at the publisher, if that is still wanted."""

        def say(number: int) -> bool:
            earlier = [topic for topic, other in self._markers.items() if other == number]
            is_wanted = not self._closed and wanted()
            for topic in earlier[: 1 - MAX_MARKERS] if is_wanted else earlier:
                self._forget_marker(topic)
            if not is_wanted:
                return False
            topic = envelope.marker_topic(os.urandom(16))
            self._markers[topic] = number
            self._sub.subscribe(topic)
            return True

        def answered(marker: Message | None) -> None:
            if marker is not None:
                callback()

        self._requests.ask(say, answered, self._loop.time())

    def _forget_marker(self, topic: bytes) -> None:
        del self._markers[topic]
        if not self._closed:
            self._sub.unsubscribe(topic)

    def subscriptions_of(self, claim: Subscription, prefixes: Iterable[bytes]) -> None:
        """Be subscribed to what a claim wants from now on, and to what the others want."""
        before, after = Counter(self._of_claims.get(claim, ())), Counter(prefixes)
        self._of_claims[claim] = list(after)
        for prefix in after - before:
            self._subscriptions[prefix] += 1
            if self._subscriptions[prefix] == 1:
                self._sub.subscribe(prefix)
        for prefix in before - after:
            self._subscriptions[prefix] -= 1
            if not self._subscriptions[prefix]:
                del self._subscriptions[prefix]
                self._sub.unsubscribe(prefix)

    def tick(self) -> None:
        """
        Show that we are alive and what we believe to have, and ask again what was lost.

        A beat is repeated by the next one. Where we have missed an assignment it is answered with one; where we are not
        taken for a member any more, or have missed something else, its own answer says so.
        """
        now = self._loop.time()
        self._requests.tick(now)
        for claim in self.claims.values():
            claim.tick()
        claims = {(claim.api, claim.group): claim for claim in self.claims.values() if claim.group}
        if claims:
            self.send(Beat([[api, group] for api, group in claims], [claim.state for claim in claims.values()]))

    def _beaten(self, answer: Beat) -> None:
        known = {
            (api, group): state
            for (api, group), state in zip_longest(answer.groups, answer.states[: len(answer.groups)])
        }
        for claim in list(self.claims.values()):
            name = (claim.api, claim.group)
            if name in known:
                if (state := known[name]) is not None:
                    claim.catch_up(int(state[0]))
            elif claim.group and claim.generation:
                claim.join_again()

    def pause(self) -> None:
        """Read nothing that is published for now."""
        self._sub.pause()

    def resume(self) -> None:
        """Go on reading."""
        self._sub.resume()

    # Acknowledging

    def to_acknowledge(self, stream: Stream) -> None:
        """Acknowledge soon what was handled of a stream, and what is until then."""
        self._to_acknowledge.add(stream)
        stream.is_noted = True
        if stream.untold >= UNCONFIRMED // 2:  # or it would have to stop
            self.flush()
        elif self._timer is None and not self._closed:
            self._timer = self._loop.call_later(self._ack_after, self.flush)

    def flush(self) -> None:
        """Acknowledge everything that was handled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        streams, self._to_acknowledge = self._to_acknowledge, set()
        is_much = sum([stream.untold for stream in streams]) >= MUCH
        self._ack_after = min(2 * self._ack_after, LONGEST_ACK_AFTER) if is_much else ACK_AFTER
        by_claim: dict[Subscription, list[tuple[Stream, int]]] = {}
        for stream in streams:
            stream.is_noted = False
            sequence = stream.to_tell()
            if sequence is not None:
                by_claim.setdefault(stream.owner, []).append((stream, sequence))
        for claim, handled in by_claim.items():
            self._acknowledge(claim, handled)

    def _acknowledge(self, claim: Subscription, handled: list[tuple[Stream, int]]) -> None:
        rows = [[*stream.key, sequence] for stream, sequence in handled]

        def answered(answer: Message | None) -> None:
            if isinstance(answer, Acked):
                self.consumer.counts["refused_acks"] += len(answer.refused)
                for stream, sequence in handled:
                    if stream.key[2] not in answer.refused:
                        claim.confirmed(stream, sequence)
                    else:
                        stream.was_not_confirmed()  # if it is ours all the same, it is told again
            else:
                for stream, _ in handled:
                    stream.was_not_confirmed()
            if isinstance(answer, Error):
                claim.join_again()

        self.ask(lambda: Ack(claim.api, claim.group, claim.generation, rows), answered, is_urgent=True)

    async def leave(self, seconds: float) -> None:
        """Acknowledge everything, leave the groups in order, and return when that is on disk, or the time is over."""
        self.flush()
        waits: list[asyncio.Future[None]] = []
        for claim in self.claims.values():
            if claim.group and not claim.busy:
                waits.append(done := self._loop.create_future())
                message = Leave(claim.api, claim.group)
                self.ask(lambda message=message: message, lambda _, done=done: done.done() or done.set_result(None))  # type: ignore[misc]
        if waits:
            await asyncio.wait(waits, timeout=seconds)

    def close(self) -> None:
        """Unsubscribe from everything."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        for claim in self.claims.values():
            claim.close()
        self._closed = True
        self._sub.close()
        self._dealer.flush_and_close(100)
        self._requests.close()

    # What arrives

    def _on_frame(self, frame: bytes) -> None:
        message: Message | None = None
        try:
            topic, message = envelope.decode_published(frame)
            kind = type(message)
            if kind is Events:
                self._on_events(topic, message)  # type: ignore[arg-type]
            elif kind is Marker:
                self._on_marker(topic, message)
            elif kind is Head:
                api, event, partition = self._named(topic)
                for claim in self._claims_of(api, event):
                    claim.head(event, partition, message)  # type: ignore[arg-type]
        except Exception as error:
            self._not_handled(message, error)

    def _on_events(self, topic: bytes, message: Events) -> None:
        api, event, partition = self._named(topic)
        if not message.records:
            return
        self.consumer.given(len(message.records))
        for claim in self._claims_of(api, event):
            claim.live(event, partition, message)

    def _on_marker(self, topic: bytes, marker: Message) -> None:
        number = self._markers.get(topic)
        if number is not None:
            for each in [each for each, other in self._markers.items() if other == number]:
                self._forget_marker(each)
            self._requests.answered(number, marker)

    def _on_message(self, frame: bytes) -> None:
        message: Message | None = None
        try:
            call_id, message = envelope.decode(frame)
            if isinstance(message, Beat):
                self._beaten(message)
            elif not self._requests.answered(call_id, message) and isinstance(message, (Assign, Streams)):
                self._pushed(message)
        except Exception as error:
            self._not_handled(message, error)

    def _pushed(self, message: Assign | Streams) -> None:
        for claim in self.claims.values():
            if (claim.api, claim.group) == (message.api, message.group):
                if isinstance(message, Assign):
                    claim.assigned(message)
                else:
                    claim.told_streams(message)

    def _not_handled(self, message: Message | None, error: Exception) -> None:
        """Note that something that arrived led to nothing; the next message is read as if there had not been any."""
        self.consumer.counts["unreadable"] += 1
        if message is None or isinstance(error, ProtocolError):
            self.consumer.guard.unreadable(self.peer.announcement, error)
        else:
            self.consumer.guard.failed(self.peer.announcement, message, error)

    def missed(self, api: str, key: Any) -> None:
        """Record that events of best effort were lost on the way."""
        self.consumer.counts["gaps"] += 1
        text = "Events of %s.%s from %s were lost on the way: this process reads too slowly"
        self._failures.say((api, key[1]), logging.WARNING, text, api, key[1], self.peer.announcement)

    def _named(self, topic: bytes) -> tuple[str, str, int]:
        named = self._topics.get(topic)
        if named is None:
            if len(self._topics) >= MAX_TOPICS:  # no publisher has so many: it makes them up
                self._topics.clear()
                self._by_event.clear()
            named = self._topics[topic] = envelope.split_topic(topic)
        return named

    def _claims_of(self, api: str, event: str) -> tuple[Subscription, ...]:
        found = self._by_event.get((api, event))
        if found is None:
            found = self._by_event[api, event] = tuple(
                claim
                for claim in self.claims.values()
                if claim.api == api and (event in claim.events or claim.queue.listener.wants(event))
            )
        return found
