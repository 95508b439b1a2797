"""Replies that callers do not read: bounded in bytes, and the connection is closed if none is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lightbus.adapters.zmq.unread_replies import AHEAD, FEW, UnreadReplies

ID = b"\x00\x00\x00\x00\x01"
OTHER = b"\x00\x00\x00\x00\x02"
LARGE = b"x" * (AHEAD // 2)
MOST = 2 * AHEAD


class Wire:
    """A connection of libzmq: `ours` is the end that it would write to."""

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

    def is_over(self) -> bool:
        """Read everything; return whether the stream ends after it."""
        try:
            while self.theirs.recv(1 << 20):
                continue
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Kept(UnreadReplies):
    """Records the data given to libzmq."""

    def __init__(self, most: int = MOST, most_in_all: int = 10 * MOST) -> None:
        self.sent: list[bytes] = []
        self.dropped = 0
        super().__init__(self._note, self._lose, most, most_in_all)

    def _note(self, routing_id: bytes, frame: bytes) -> bool:
        self.sent.append(frame)
        return True

    def _lose(self, count: int) -> None:
        self.dropped += count

    def give(self, routing_id: bytes, frame: bytes) -> None:
        """Do as the socket does."""
        if not self.takes(routing_id, frame):
            self._note(routing_id, frame)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Give a connection."""
    made = Wire()
    yield made
    made.close()


def test_read_replies_are_not_kept(wire: Wire) -> None:
    """However much it is; and nothing is kept for unknown connections."""
    unread = Kept()
    unread.on_message(ID, wire.ours.fileno())
    for _ in range(20):
        unread.give(ID, LARGE)
        unread.give(OTHER, LARGE)
    assert (len(unread.sent), unread.kept_bytes, bool(unread)) == (40, 0, False)


def test_unread_replies_are_kept_in_order(wire: Wire) -> None:
    """Libzmq gets a few MiB, and the next once it could write those."""
    unread = Kept()
    unread.on_message(ID, wire.ours.fileno())
    wire.fill()
    frames = [LARGE, LARGE, b"1", LARGE, b"2", LARGE]
    for frame in frames:
        unread.give(ID, frame)
    assert (unread.sent, unread.kept_bytes) == (frames[:2], sum(map(len, frames[2:])))
    assert not unread.hand_over()
    assert not wire.is_over()
    assert unread.hand_over()
    assert (unread.sent, unread.kept_bytes, bool(unread)) == (frames, 0, False)


def test_connection_that_takes_nothing_is_disconnected(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """At the bound, and not before; later replies to it are dropped, and others are not affected."""
    unread, other = Kept(), Wire()
    unread.on_message(ID, wire.ours.fileno())
    unread.on_message(OTHER, other.ours.fileno())
    wire.fill()
    for _ in range(2 + MOST // len(LARGE)):
        unread.give(ID, LARGE)
    assert (unread.closed, unread.kept_bytes) == (0, MOST)
    unread.give(ID, b"y")
    assert (unread.closed, unread.kept_bytes, bool(unread)) == (1, 0, False)
    assert unread.dropped == MOST // len(LARGE) + 1
    assert wire.is_over()
    assert "has not read while 16 MiB of results arrived for it, and was disconnected (1 so far)" in caplog.text
    dropped = unread.dropped
    unread.give(ID, b"z")
    assert unread.dropped == dropped + 1
    assert not other.is_over()
    other.close()


def test_slow_reader_is_not_disconnected(wire: Wire) -> None:
    """Only bytes kept since it last took something count."""
    unread = Kept()
    unread.on_message(ID, wire.ours.fileno())
    for _ in range(6):
        wire.fill()
        for _ in range(MOST // len(LARGE)):
            unread.give(ID, LARGE)
        assert not wire.is_over()
        unread.hand_over()
    assert unread.closed == 0


def test_kept_replies_are_bounded_in_all(wire: Wire) -> None:
    """The connection with the most is closed, whichever connection exceeded the bound."""
    unread, other = Kept(most=10 * MOST, most_in_all=MOST), Wire()
    for routing_id, each in ((ID, wire), (OTHER, other)):
        unread.on_message(routing_id, each.ours.fileno())
        each.fill()
    for _ in range(2 + 3):
        unread.give(ID, LARGE)
    for _ in range(2 + 2):
        unread.give(OTHER, LARGE)
    assert (unread.closed, unread.kept_bytes) == (1, 2 * len(LARGE))
    assert wire.is_over()
    assert not other.is_over()
    other.close()


def test_kept_replies_are_given_to_libzmq_before_closing(wire: Wire) -> None:
    """Libzmq sends them for a while after the socket is closed."""
    unread = Kept()
    unread.on_message(ID, wire.ours.fileno())
    wire.fill()
    for _ in range(6):
        unread.give(ID, LARGE)
    unread.flush()
    assert (len(unread.sent), unread.kept_bytes, bool(unread)) == (6, 0, False)


def test_connections_that_are_gone_are_forgotten(wire: Wire) -> None:
    """With the replies kept for them; without such, once many connections are known."""
    unread = Kept()
    gone = Wire()
    unread.on_message(ID, gone.ours.fileno())
    gone.fill()
    for _ in range(4):
        unread.give(ID, LARGE)
    gone.close()
    assert not unread.hand_over()
    assert (len(unread), unread.dropped, unread.kept_bytes, bool(unread)) == (0, 2, 0, False)
    for number in range(3 * FEW):
        passing = socket.socket()
        unread.on_message(b"\x00%d" % number, passing.fileno())
        passing.close()
        unread.on_message(OTHER, passing.fileno())
    assert len(unread) <= FEW + 1


def test_chosen_routing_ids_are_not_trusted(wire: Wire) -> None:
    """Ids chosen by libzmq begin with a zero, and are used once."""
    unread, other = Kept(), Wire()
    for routing_id in (ID, b"mine"):
        assert not unread.knows(routing_id)
        unread.on_message(routing_id, other.ours.fileno())
    assert unread.knows(ID)
    assert not unread.knows(b"mine")
    unread.on_message(b"mine", wire.ours.fileno())
    wire.fill()
    for _ in range(3):
        unread.give(b"mine", LARGE)
    assert unread.kept_bytes == len(LARGE)
    other.close()


def test_bundles_count_like_their_frames(wire: Wire) -> None:
    """If there is not room for all, each frame is checked alone."""
    unread = Kept()
    unread.on_message(ID, wire.ours.fileno())
    assert unread.has_room(ID, AHEAD)
    assert not unread.has_room(ID, 1)
    assert unread.has_room(OTHER, 2 * AHEAD), "nothing is known of it"
    wire.fill()
    unread.give(ID, b"1")
    assert (unread.sent, unread.kept_bytes) == ([], 1)
    assert not unread.has_room(ID, 1)
