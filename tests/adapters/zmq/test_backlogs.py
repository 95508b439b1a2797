"""Connections that do not read published messages are closed before many wait for them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from lightbus.adapters.zmq.backlogs import LOOK_EVERY, MAX_NUMBER, MAX_TOPICS, Backlogs

MOST = 4 * LOOK_EVERY


class Connection:
    """One connection of a publisher: `ours` is the end that libzmq would write to."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)

    def fill(self) -> None:
        """Write until nothing more fits."""
        try:
            while True:
                self.ours.send(b"x" * 4096)
        except BlockingIOError:
            return

    def read(self) -> bytes:
        """Read all there is; empty at the end of the stream."""
        found = b""
        try:
            while part := self.theirs.recv(1 << 20):
                found += part
        except BlockingIOError:
            return found
        return b""

    def is_open(self) -> bool:
        """Whether the other end has seen no end of the stream, apart from unread bytes."""
        try:
            while self.theirs.recv(1 << 20):
                continue
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Give a connection of a publisher."""
    made = Connection()
    yield made
    made.close()


@pytest.fixture
def backlogs(connection: Connection) -> Backlogs:
    """Return the backlogs of a publisher with one connection."""
    made = Backlogs(MOST)
    made.on_subscription(connection.ours.fileno())
    return made


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    """Give four of them."""
    made = [Connection() for _ in range(4)]
    yield made
    for each in made:
        each.close()


def publish(backlogs: Backlogs, size: int) -> None:
    """Publish this many bytes, in several messages."""
    for _ in range(size // LOOK_EVERY):
        backlogs.published(LOOK_EVERY)


def test_connection_that_reads_nothing_is_closed(
    backlogs: Backlogs, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Once the bound was published since it last had room, and not before; it is logged."""
    publish(backlogs, MOST)
    connection.fill()
    publish(backlogs, MOST)
    assert backlogs.closed == 0
    publish(backlogs, LOOK_EVERY)
    assert (backlogs.closed, len(backlogs)) == (1, 0)
    assert not connection.is_open()
    assert "A subscriber has not read while 4 MiB were published, and was disconnected (1 so far)" in caplog.text


def test_slowly_reading_connection_stays(backlogs: Backlogs, connection: Connection) -> None:
    """Each time it is writable counts."""
    for _ in range(4):
        connection.fill()
        publish(backlogs, MOST - LOOK_EVERY)
        connection.read()
        publish(backlogs, LOOK_EVERY)
    assert (backlogs.closed, len(backlogs)) == (0, 1)
    assert connection.is_open()


def test_a_connection_that_ended_is_forgotten(backlogs: Backlogs, connection: Connection) -> None:
    """Whether its descriptor or its other end is closed."""
    other = Connection()
    backlogs.on_subscription(other.ours.fileno())
    other.theirs.close()
    connection.ours.close()
    publish(backlogs, LOOK_EVERY)
    assert len(backlogs) == 0
    other.close()


def test_reused_descriptor_is_another_connection(backlogs: Backlogs, connection: Connection) -> None:
    """The connection that now has the number is never closed in its place."""
    connection.fill()
    publish(backlogs, MOST)
    other = Connection()
    other.fill()
    number = connection.ours.fileno()
    os.dup2(other.ours.fileno(), number)
    publish(backlogs, 2 * LOOK_EVERY)
    assert other.is_open()
    assert (backlogs.closed, len(backlogs)) == (0, 0)
    backlogs.on_subscription(number)
    assert len(backlogs) == 1
    other.close()


def test_invalid_descriptor_is_ignored(backlogs: Backlogs, connection: Connection) -> None:
    """A connection may be gone before its data is recorded."""
    number = connection.ours.fileno()
    connection.close()
    Backlogs().on_subscription(number)


def test_subscriber_with_too_large_topics_is_disconnected(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A topic counts once, however often it was subscribed to."""
    backlogs = Backlogs(MOST)
    descriptor = connection.ours.fileno()
    for _ in range(3):
        backlogs.on_subscription(descriptor, b"x" * MAX_TOPICS)
    assert connection.is_open()
    backlogs.on_subscription(descriptor, b"x" * MAX_TOPICS, subscribed=False)
    backlogs.on_subscription(descriptor, b"y")
    assert connection.is_open()
    backlogs.on_subscription(descriptor, b"x" * MAX_TOPICS)
    assert not connection.is_open()
    assert backlogs.too_many_topics == 1
    assert "A connection that had subscribed to 2 topics of 4194305 bytes was closed (1 so far)" in caplog.text


def test_subscriber_with_too_many_topics_is_disconnected(connections: list[Connection]) -> None:
    """However short they are; of all together, the one with the most; shared topics count once."""
    backlogs = Backlogs(MOST)
    many, same, other, newcomer = connections
    for number in range(MAX_NUMBER):
        backlogs.on_subscription(many.ours.fileno(), b"%x" % number)
        backlogs.on_subscription(many.ours.fileno(), b"%x" % number)
    for number in range(MAX_NUMBER - 1):
        backlogs.on_subscription(same.ours.fileno(), b"%x" % number)
        backlogs.on_subscription(other.ours.fileno(), b"other %x" % number)
    backlogs.on_subscription(newcomer.ours.fileno(), b"auth")
    assert [each.is_open() for each in connections] == [True] * 4
    backlogs.on_subscription(newcomer.ours.fileno(), b"shop")
    assert [each.is_open() for each in connections] == [False, True, True, True]
    backlogs.on_subscription(other.ours.fileno(), b"one")
    assert other.is_open()
    backlogs.on_subscription(other.ours.fileno(), b"two")
    assert [each.is_open() for each in connections] == [False, True, False, True]
    assert backlogs.too_many_topics == 2


def test_topics_of_all_subscribers_are_bounded(connections: list[Connection]) -> None:
    """The one with the most is disconnected, not the newest; shared topics count once."""
    backlogs = Backlogs(MOST)
    many, same, other, newcomer = connections
    for number in range(4):
        backlogs.on_subscription(many.ours.fileno(), b"%d" % number * (MAX_TOPICS // 4))
        backlogs.on_subscription(same.ours.fileno(), b"%d" % number * (MAX_TOPICS // 4 - 1))
    for number in range(4):
        backlogs.on_subscription(other.ours.fileno(), b"%d" % number * (MAX_TOPICS // 4))
    backlogs.on_subscription(newcomer.ours.fileno(), b"auth")
    assert [each.is_open() for each in connections] == [True] * 4
    backlogs.on_subscription(newcomer.ours.fileno(), b"shop")
    assert [each.is_open() for each in connections] == [False, True, True, True]
    backlogs.on_subscription(newcomer.ours.fileno(), b"bill")  # libzmq has not reported the ended connection yet
    assert newcomer.is_open()


def test_ended_topics_do_not_count(connections: list[Connection]) -> None:
    """Libzmq reports the end of a subscription if no other peer has it, also after a disconnect."""
    backlogs = Backlogs(MOST)
    for each in connections:
        for number in range(4):
            backlogs.on_subscription(each.ours.fileno(), b"%d" % number * (MAX_TOPICS // 4 - 1))
            backlogs.unsubscribed(b"%d" % number * (MAX_TOPICS // 4 - 1))
    assert [each.is_open() for each in connections] == [True] * 4
