"""
Finds connections of a publisher that do not read: libzmq bounds what waits for them by number, not by bytes.

Ten thousand messages of 64 KiB are 640 MiB for one subscriber whose process was stopped. So connections are checked
while something is published. If nothing could be written to a connection while `MAX_BACKLOG` bytes were published, at
most so many wait for it: the connection is closed. libzmq frees its queue, and the subscriber reconnects, as after any
other break, and fetches what it missed from the journal.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from contextlib import suppress

from .socket_from_fd import socket_from_fd

__all__ = [
    "CLOSED",
    "GONE",
    "LOOK_EVERY",
    "MAX_BACKLOG",
    "MAX_NUMBER",
    "MAX_TOPICS",
    "MAX_TOPICS_IN_ALL",
    "WRITABLE",
    "Backlogs",
    "KernelConnection",
    "should_log",
]

logger = logging.getLogger("lightbus.transport")

MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes published before a connection that takes none of them is closed."""

MAX_TOPICS = 4 * 1024 * 1024
"""
Bytes of the topics to which one connection may be subscribed: a hundred thousand topics of usual length. libzmq takes
fifty times as much memory for topics that have nothing in common.
"""

MAX_TOPICS_IN_ALL = 2 * MAX_TOPICS
"""Bytes of the different topics of all connections; beyond these the connection with the most topics is closed."""

MAX_NUMBER = 64 * 1024
"""
Topics to which one connection may be subscribed, and half of the different topics of all connections: a listener has
at most 4,096 events in 15 partitions each (`field_types`). When a connection ends, libzmq removes all of its topics at
once, in the thread of our loop (`xpub_t::xpipe_terminated`, 4.3.5), and goes through the topics of all others for it.
"""

LOOK_EVERY = 1024 * 1024
"""Bytes published between two checks."""

# On Linux a socket is writable while at least two thirds of its buffer are free (unix_writable in net/unix/af_unix.c,
# sk_stream_is_writeable). libzmq writes until nothing more fits: when the socket is writable, its queue is empty.
WRITABLE = select.POLLOUT
CLOSED = select.POLLNVAL
GONE = CLOSED | select.POLLERR | select.POLLHUP


class KernelConnection:
    """
    One connection of libzmq, identified by its descriptor and inode. Raises OSError if it is gone already.

    Args:
        descriptor: libzmq's descriptor; its number may belong to another connection later.

    """

    __slots__ = ("descriptor", "inode")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino

    @property
    def is_there(self) -> bool:
        """Whether the descriptor still belongs to this connection."""
        try:
            return os.fstat(self.descriptor).st_ino == self.inode
        except OSError:
            return False

    @property
    def state(self) -> int:
        """The events that `poll` reports now: `WRITABLE`, or one of `GONE`."""
        if not self.is_there:
            return CLOSED
        poll = select.poll()
        poll.register(self.descriptor, WRITABLE)
        return next((state for _, state in poll.poll(0)), 0)

    def close(self) -> bool:
        """Shut the connection down, if it still exists. libzmq sees the end of the stream and closes its descriptor."""
        with suppress(OSError):
            if self.is_there:
                with socket_from_fd(self.descriptor) as ended:
                    ended.shutdown(socket.SHUT_RDWR)
                return True
        return False


class _SubscriberBacklog:
    __slots__ = ("clear_at", "connection", "size", "topics")

    def __init__(self, connection: KernelConnection, clear_at: int) -> None:
        self.connection = connection
        self.clear_at = clear_at
        """The published bytes when nothing waited for this connection."""
        self.topics: set[bytes] = set()
        """
        The topics it has subscribed to. Some may have ended: libzmq reports the end of a subscription only if no other
        connection has the same one.
        """
        self.size = 0
        """Bytes of these topics."""


class Backlogs:
    """
    The connections of one publisher. Only touched from its loop.

    Args:
        most: about how many bytes may wait for one connection.

    """

    def __init__(self, most: int = MAX_BACKLOG) -> None:
        self.closed = 0
        """The number of connections closed because they did not read."""
        self.too_many_topics = 0
        """The number of connections closed because they had subscribed to too much."""
        self._most = most
        self._published = 0
        self._look_at = 0
        self._connections: dict[int, _SubscriberBacklog] = {}
        self._topics: dict[bytes, bytes] = {}
        """All subscribed topics, each mapped to itself, so that equal topics are stored once."""
        self._topics_size = 0
        self._most_topics, self._most_number = MAX_TOPICS_IN_ALL, 2 * MAX_NUMBER
        self._poll = select.poll()

    def __len__(self) -> int:
        return len(self._connections)

    def on_subscription(self, descriptor: int, topic: bytes = b"", *, subscribed: bool = True) -> None:
        """Record that a subscription, or its end, arrived over the connection with this descriptor of libzmq's."""
        with suppress(OSError):
            connection = KernelConnection(descriptor)
            known = self._connections.get(descriptor)
            if known is None or known.connection.inode != connection.inode:
                known = self._connections[descriptor] = _SubscriberBacklog(connection, self._published)
                self._poll.register(descriptor, WRITABLE)
            if subscribed:
                self._add(known, topic)
            elif topic in known.topics:
                known.topics.remove(topic)
                known.size -= len(topic)
            if known.size > MAX_TOPICS or len(known.topics) > MAX_NUMBER:
                self._forget(descriptor)
                self._close_for_topics(known)
        if self._topics_size > self._most_topics or len(self._topics) > self._most_number:
            self._make_room()

    def unsubscribed(self, topic: bytes) -> None:
        """Record that a topic has no subscriber left."""
        if self._topics.pop(topic, None) is not None:
            self._topics_size -= len(topic)
        if self._topics_size <= MAX_TOPICS_IN_ALL and len(self._topics) <= 2 * MAX_NUMBER:
            self._most_topics, self._most_number = MAX_TOPICS_IN_ALL, 2 * MAX_NUMBER

    def _add(self, subscriber: _SubscriberBacklog, topic: bytes) -> None:
        known = self._topics.setdefault(topic, topic)
        if known is topic:
            self._topics_size += len(topic)
        if known not in subscriber.topics:
            subscriber.topics.add(known)
            subscriber.size += len(known)

    def _make_room(self) -> None:
        """Close the connection with the most topics; libzmq reports the end of each only later."""
        if not self._connections:
            return
        by_number = len(self._topics) > self._most_number
        self._most_topics = max(self._most_topics, self._topics_size + MAX_TOPICS)
        self._most_number = max(self._most_number, len(self._topics) + MAX_NUMBER)
        descriptor, most = max(
            self._connections.items(), key=lambda item: len(item[1].topics) if by_number else item[1].size
        )
        self._forget(descriptor)
        self._close_for_topics(most)

    def published(self, size: int) -> None:
        """Count published bytes, and now and then look for subscribers that do not read."""
        self._published += size
        if self._published >= self._look_at:
            self._look_at = self._published + LOOK_EVERY
            self._look()

    def _look(self) -> None:
        states = dict(self._poll.poll(0))
        for descriptor, subscriber in list(self._connections.items()):
            state = states.get(descriptor, 0)
            if state & GONE:
                self._forget(descriptor)
            elif state & WRITABLE:
                subscriber.clear_at = self._published
            elif self._published - subscriber.clear_at > self._most:
                self._forget(descriptor)
                self._close(subscriber.connection)

    def _forget(self, descriptor: int) -> None:
        del self._connections[descriptor]
        with suppress(KeyError):
            self._poll.unregister(descriptor)

    def _close(self, connection: KernelConnection) -> None:
        if connection.close():
            self.closed += 1
            if should_log(self.closed):
                logger.warning(
                    "A subscriber has not read while %d MiB were published, and was disconnected (%d so far). It "
                    "fetches what it missed from the journal once it reads again; events of best effort are lost to it",
                    self._most // 2**20, self.closed,
                )  # fmt: skip

    def _close_for_topics(self, subscriber: _SubscriberBacklog) -> None:
        if subscriber.connection.close():
            self.too_many_topics += 1
            if should_log(self.too_many_topics):
                logger.warning(
                    "A connection that had subscribed to %d topics of %d bytes was closed (%d so far). Each may have "
                    "%d topics of %d bytes, all together twice as many. No listener needs more: find the program",
                    len(subscriber.topics), subscriber.size, self.too_many_topics, MAX_NUMBER, MAX_TOPICS,
                )  # fmt: skip


def should_log(count: int) -> bool:
    """Return whether to log the event number `count`: the first, and then each power of two."""
    return count & (count - 1) == 0
