"""Messages that arrive faster than they are read are bounded, in memory and in the cost of subscriptions."""

from __future__ import annotations

import mmap
import socket
from collections.abc import Callable, Iterator

import pytest

from lightbus.adapters.zmq.backlogs import MAX_TOPICS
from lightbus.adapters.zmq.meter import Meter
from lightbus.adapters.zmq.receive_limit import (
    LOOK_CLOSELY,
    LOOK_EVERY,
    LOOK_SELDOM,
    MAX_WAITING,
    STEP,
    TOPICS_GROWTH,
    ReceiveLimit,
    memory_in_use,
)

pytestmark = pytest.mark.skipif(not Meter.POSSIBLE, reason="only Linux counts what comes over a connection")

MIB = 1024 * 1024


class Place:
    """A bound socket whose loop answers on demand, in a process of a given size."""

    def __init__(self, *, subscriptions: bool = False, largest: int = 0) -> None:
        self.memory = 100 * MIB
        self.now = 0.0
        self.asked: list[Callable[[bool], None]] = []
        self.receive_limit = ReceiveLimit(largest, memory=lambda: self.memory)
        self.receive_limit.add("socket", self.asked.append, subscriptions=subscriptions)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def connect(self) -> socket.socket:
        """Connect once, and return the sender's end."""
        ours, theirs = socket.socketpair()
        self._pairs.append((ours, theirs))
        theirs.settimeout(5)
        self.receive_limit.accepted("socket", ours.fileno())
        return theirs

    def send(self, theirs: socket.socket, size: int) -> None:
        """Send bytes over a connection, and let libzmq read them."""
        [ours] = [each for each, other in self._pairs if other is theirs]
        while size:
            theirs.sendall(b"x" * min(size, 65536))
            ours.recv(min(size, 65536), socket.MSG_WAITALL)
            size -= min(size, 65536)

    def look(self) -> None:
        self.now += LOOK_SELDOM
        self.receive_limit.look(self.now)

    def grow(self, size: int) -> None:
        """Let the process grow by so much, and check."""
        self.memory += size
        self.look()

    def is_open(self, theirs: socket.socket) -> bool:
        """Whether a connection was not ended."""
        theirs.setblocking(False)
        try:
            return theirs.recv(1) != b""
        except BlockingIOError:
            return True

    def close(self) -> None:
        self.receive_limit.close()
        for pair in self._pairs:
            for each in pair:
                each.close()


@pytest.fixture
def place() -> Iterator[Place]:
    """Give a socket that messages come in at."""
    made = Place()
    yield made
    made.close()


@pytest.fixture
def publisher() -> Iterator[Place]:
    """Give a socket that receives subscriptions."""
    made = Place(subscriptions=True)
    yield made
    made.close()


def test_largest_senders_are_disconnected_while_nothing_is_read(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The largest and those of similar size, once; others stay, and no connection is accepted until all is read."""
    greedy, second, modest = place.connect(), place.connect(), place.connect()
    place.grow(STEP)
    assert len(place.asked) == 1
    place.send(greedy, 30 * MIB)
    place.send(second, 20 * MIB)
    place.send(modest, 2 * MIB)
    place.grow(MAX_WAITING)
    assert [place.is_open(each) for each in (greedy, second, modest)] == [False, False, True]
    assert (place.receive_limit.closed, place.receive_limit.is_over) == (2, True)
    [record] = caplog.records
    assert "the connection of process " in record.getMessage()
    assert "which sent 30 MiB, was closed (1 so far)" in record.getMessage()
    place.look()
    assert (place.is_open(modest), place.receive_limit.is_over) == (True, True)
    place.asked[0](True)
    place.look()
    assert not place.receive_limit.is_over


def test_read_messages_do_not_count(place: Place) -> None:
    """A growing process whose loop reads all messages disconnects no peer."""
    busy = place.connect()
    for _ in range(40):
        place.send(busy, 2 * MIB)
        place.grow(STEP)
        while place.asked:
            place.asked.pop()(True)
    assert place.is_open(busy)
    assert not place.receive_limit.is_over


def test_loop_with_unread_messages_is_asked_again(place: Place) -> None:
    """Only the answer that nothing waits resets the count."""
    flood = place.connect()
    place.grow(STEP)
    for _ in range(3):
        place.asked[-1](False)
        place.send(flood, 6 * MIB)
        place.look()
    assert len(place.asked) == 4
    place.grow(MAX_WAITING)
    assert not place.is_open(flood)


def test_memory_of_a_handler_disconnects_no_peer(place: Place) -> None:
    """If few bytes have arrived, messages are not the cause."""
    modest = place.connect()
    place.grow(STEP)
    place.send(modest, 5 * MIB)
    place.grow(4 * MAX_WAITING)
    assert place.is_open(modest)
    assert place.receive_limit.closed == 0


def test_bytes_of_ended_connections_count(place: Place) -> None:
    """They count together with those of the others, which are disconnected for it."""
    modest = place.connect()
    place.grow(STEP)
    for _ in range(3):
        passing = place.connect()
        place.send(passing, 6 * MIB)
        place.look()
        [ours] = [ours for ours, theirs in place._pairs if theirs is passing]
        place.receive_limit.disconnected("socket", ours.fileno())
    place.send(modest, 1 * MIB)
    place.grow(MAX_WAITING)
    assert place.receive_limit.is_over
    assert not place.is_open(modest)


def test_large_messages_have_more_room() -> None:
    """If a message may be large, four of them may wait."""
    place = Place(largest=200 * MIB)
    try:
        sender = place.connect()
        place.grow(STEP)
        place.send(sender, 20 * MIB)
        place.grow(700 * MIB)
        assert place.is_open(sender)
        place.grow(100 * MIB)
        assert not place.is_open(sender)
    finally:
        place.close()


def test_subscriptions_are_checked_at_once(publisher: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A peer that sends more of them than any listener has, before they are read, is disconnected at once."""
    many, few = publisher.connect(), publisher.connect()
    publisher.send(few, 300_000)
    publisher.receive_limit.woken(publisher.now)
    publisher.send(many, MAX_TOPICS)
    publisher.receive_limit.woken(publisher.now)
    assert publisher.is_open(many)
    publisher.send(many, 1)
    publisher.receive_limit.woken(publisher.now)
    assert (publisher.is_open(many), publisher.is_open(few)) == (False, True)
    assert f"it sent {MAX_TOPICS + 1} bytes of subscriptions faster than they could be read" in caplog.text


def test_read_subscriptions_do_not_count(publisher: Place) -> None:
    """A listener that subscribes and unsubscribes for years is not disconnected."""
    listener = publisher.connect()
    for number in range(5):
        publisher.send(listener, MAX_TOPICS // 2)
        publisher.receive_limit.woken(publisher.now)
        publisher.asked[number](True)
        publisher.look()
    assert publisher.is_open(listener)


def test_subscriptions_of_many_are_bounded_by_memory(publisher: Place) -> None:
    """If the process grows, the largest senders are disconnected; otherwise no one is."""
    listeners = [publisher.connect() for _ in range(3)]
    publisher.look()
    for listener in listeners:
        publisher.send(listener, MIB)
        publisher.receive_limit.woken(publisher.now)
    assert all(publisher.is_open(each) for each in listeners)
    publisher.grow(TOPICS_GROWTH + 1)
    assert not any(publisher.is_open(each) for each in listeners)
    assert publisher.receive_limit.is_over
    publisher.asked[0](True)
    publisher.look()
    assert not publisher.receive_limit.is_over


def test_without_connections_no_check_is_due(place: Place) -> None:
    """A worker without connections sleeps."""
    assert place.receive_limit.pause is None
    place.connect()
    assert place.receive_limit.pause == LOOK_EVERY


def test_memory_that_cannot_be_read_for_a_moment(place: Place) -> None:
    """While no descriptor is free, for example: the process did not grow from nothing when it can be read again."""
    place.connect()
    place.look()
    before, place.memory = place.memory, 0
    place.look()
    place.grow(before)
    assert (place.asked, place.receive_limit.is_over) == ([], False)


def test_the_memory_in_use_is_known() -> None:
    """It grows with allocated memory."""
    with mmap.mmap(-1, 64 * MIB) as held:  # a bytes object may reuse memory that the process has already
        before = memory_in_use()
        held.write(b"x" * len(held))
        assert memory_in_use() - before > 32 * MIB


def test_idle_process_is_checked_less_often(place: Place) -> None:
    """Checks are most of an idle worker's work. A growing one is checked as often as before at once."""
    place.connect()
    place.look()
    for _ in range(5):
        place.look()
    assert place.receive_limit.pause == LOOK_SELDOM
    place.grow(1)
    assert place.receive_limit.pause == LOOK_EVERY
    place.grow(STEP)
    assert place.receive_limit.pause == LOOK_CLOSELY
    place.memory -= STEP
    place.look()
    assert place.receive_limit.pause == LOOK_EVERY
