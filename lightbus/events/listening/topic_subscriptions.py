"""Our SUB socket at one publisher: the subscribed topics, their users, and whether the subscriptions are in force."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable

from ...ports.transport import SubscriberSocket
from ...wire import envelope
from ...wire.envelope import AnyMessage
from .publisher_requests import PublisherRequests

__all__ = ["TopicSubscriptions"]

MAX_MARKERS = 4
"""Markers that one request waits for at a time, if it is repeated: any of them will do."""


class TopicSubscriptions:
    """
    Our topic subscriptions at one publisher. Only touched from the node's loop.

    Args:
        socket: the SUB socket.
        requests: treats markers as requests, and repeats them.

    """

    def __init__(self, socket: SubscriberSocket, requests: PublisherRequests) -> None:
        self._socket = socket
        self._requests = requests
        self._users: Counter[bytes] = Counter()
        """The number of users of each prefix."""
        self._by_user: dict[object, list[bytes]] = {}
        self._markers: dict[bytes, int] = {}
        """By marker topic: the number of the request that the marker answers."""
        self._closed = False

    def set_topics(self, user: object, prefixes: Iterable[bytes]) -> None:
        """Replace the topics of a user; topics of other users stay subscribed."""
        before, after = Counter(self._by_user.pop(user, ())), Counter(prefixes)
        if after:
            self._by_user[user] = list(after)
        for prefix in after - before:
            self._users[prefix] += 1
            if self._users[prefix] == 1:
                self._socket.subscribe(prefix)
        for prefix in before - after:
            self._users[prefix] -= 1
            if not self._users[prefix]:
                del self._users[prefix]
                self._socket.unsubscribe(prefix)

    def when_in_force(self, callback: Callable[[], None], wanted: Callable[[], bool]) -> None:
        """Call back once all present subscriptions are in force at the publisher, if that is still wanted."""
        # A publisher answers a subscription to a marker's topic with a message on it. Subscriptions of one socket take
        # effect in their order, so all earlier ones are in force by then.

        def send(number: int) -> bool:
            earlier = [topic for topic, other in self._markers.items() if other == number]
            is_wanted = not self._closed and wanted()
            for topic in earlier[: 1 - MAX_MARKERS] if is_wanted else earlier:
                self._forget_marker(topic)
            if not is_wanted:
                return False
            topic = envelope.marker_topic(os.urandom(16))
            self._markers[topic] = number
            self._socket.subscribe(topic)
            return True

        def answered(marker: AnyMessage | None) -> None:
            if marker is not None:
                callback()

        self._requests.ask_with(send, answered)

    def on_marker(self, topic: bytes, marker: AnyMessage) -> None:
        """Record that a marker arrived."""
        number = self._markers.get(topic)
        if number is not None:
            for each in [each for each, other in self._markers.items() if other == number]:
                self._forget_marker(each)
            self._requests.answered(number, marker)

    def _forget_marker(self, topic: bytes) -> None:
        del self._markers[topic]
        if not self._closed:
            self._socket.unsubscribe(topic)

    def pause(self) -> None:
        """Pause reading published events."""
        self._socket.pause()

    def resume(self) -> None:
        """Resume reading."""
        self._socket.resume()

    def read(self) -> bool:
        """Read now what was published, also during a pause; return whether there is more."""
        return self._socket.read()

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        self._socket.close()
