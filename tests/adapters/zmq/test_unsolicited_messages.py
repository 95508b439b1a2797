"""Unrequested messages are bounded, and no peer is given up for awaited answers."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from lightbus.adapters.zmq.meter import Meter
from lightbus.adapters.zmq.receive_limit import LOOK_CLOSELY, LOOK_SELDOM, MAX_WAITING, STEP
from lightbus.adapters.zmq.unsolicited_messages import UnsolicitedMessages, connections_to

pytestmark = pytest.mark.skipif(not Meter.POSSIBLE, reason="only Linux counts what comes over a connection")

MIB = 1024 * 1024


class Peer:
    """A peer at an endpoint, and our socket connected to it."""

    def __init__(self, family: int) -> None:
        self.answers: list[Callable[[bool], None]] = []
        self.waits_for = 0
        self.given_up = 0
        self.is_busy = self.loop_is_closed = False
        self._listener = socket.socket(family)
        self._listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")  # "" means any free unix address
        self._listener.listen()
        self.connect()
        name = self._listener.getsockname()
        self.endpoint = f"tcp://{name[0]}:{name[1]}" if family == socket.AF_INET else f"ipc://{name.decode()}"

    def connect(self) -> None:
        """Connect once more."""
        self.ours = socket.socket(self._listener.family)
        self.ours.connect(self._listener.getsockname())
        self.theirs = self._listener.accept()[0]

    def sends(self, size: int) -> None:
        """Send bytes from the peer, and let libzmq read them."""
        while size:
            self.theirs.sendall(b"x" * min(size, 65536))
            self.ours.recv(min(size, 65536), socket.MSG_WAITALL)
            size -= min(size, 65536)

    def awaited(self) -> int:
        return self.waits_for

    def ask(self, answer: Callable[[bool], None]) -> None:
        if self.loop_is_closed:
            raise RuntimeError("Event loop is closed")
        self.answers.append(answer)

    def give_up(self) -> bool:
        self.given_up += not self.is_busy
        return not self.is_busy

    def close(self) -> None:
        for each in (self.ours, self.theirs, self._listener):
            with suppress(OSError):
                each.close()


class Place:
    """Connecting sockets, in a process of a given size."""

    def __init__(self, family: int) -> None:
        self.memory = 100 * MIB
        self.now = 0.0
        self.unsolicited = UnsolicitedMessages(64 * MIB, memory=lambda: self.memory)
        self.peers = [Peer(family), Peer(family)]
        for peer in self.peers:
            self.unsolicited.add(peer)

    def grow(self, size: int) -> None:
        """Let the process grow by so much, and check."""
        self.memory += size
        self.now += LOOK_SELDOM
        self.unsolicited.look(self.now)


@pytest.fixture(params=[socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Return two connected peers."""
    made = Place(request.param)
    yield made
    for peer in made.peers:
        peer.close()


def test_sender_of_unrequested_messages_is_given_up(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Once the process has grown enough, the one that sent most; others stay."""
    bad, good = place.peers
    place.grow(0)
    place.grow(STEP)
    bad.sends(30 * MIB)
    good.sends(20 * MIB)
    place.grow(MAX_WAITING - STEP)
    assert bad.given_up == 0
    place.grow(STEP)
    assert (bad.given_up, good.given_up, place.unsolicited.given_up) == (1, 0, 1)
    [record] = caplog.records
    assert f"the connection to {bad.endpoint}, over which 30 MiB came, was closed (1 so far)" in record.getMessage()


def test_awaited_answers_are_allowed(place: Place) -> None:
    """Each awaited answer may be as large as a message."""
    peer, _ = place.peers
    peer.waits_for = 1
    place.grow(0)
    place.grow(STEP)
    peer.sends(64 * MIB)
    place.grow(MAX_WAITING)
    assert peer.given_up == 0
    peer.sends(16 * MIB)
    place.grow(STEP)
    assert peer.given_up == 1


def test_read_messages_do_not_count(place: Place) -> None:
    """A growing process whose loops read all messages gives up no peer."""
    place.grow(0)
    for _ in range(40):
        place.peers[0].sends(2 * MIB)
        place.grow(STEP)
        for peer in place.peers:
            while peer.answers:
                peer.answers.pop()(True)
    assert place.unsolicited.given_up == 0


def test_loop_with_unread_messages_is_asked_again(place: Place) -> None:
    """Only the answer that nothing waits resets the count."""
    bad, _ = place.peers
    place.grow(0)
    place.grow(STEP)
    for _ in range(3):
        bad.answers[-1](False)
        bad.sends(6 * MIB)
        place.grow(0)
    assert len(bad.answers) == 4
    place.grow(MAX_WAITING)
    assert bad.given_up == 1


def test_other_memory_growth_disconnects_no_peer(place: Place) -> None:
    """If few bytes have arrived, messages are not the cause."""
    place.grow(0)
    place.grow(STEP)
    place.peers[0].sends(5 * MIB)
    place.grow(4 * MAX_WAITING)
    assert place.unsolicited.given_up == 0


def test_bytes_of_ended_connections_count(place: Place) -> None:
    """They count together with those of the latest connection."""
    bad, _ = place.peers
    place.grow(0)
    place.grow(STEP)
    for _ in range(4):
        bad.sends(6 * MIB)
        place.grow(STEP)
        bad.ours.close()
        bad.theirs.close()
        bad.connect()
        place.grow(STEP)
    place.grow(MAX_WAITING)
    assert bad.given_up == 1
    bad.is_busy = True
    place.grow(STEP)
    assert (bad.given_up, place.unsolicited.given_up) == (1, 1)


def test_closed_loop_is_not_asked(place: Place) -> None:
    """Its sockets will be closed, too."""
    bad, good = place.peers
    bad.loop_is_closed = True
    place.grow(0)
    place.grow(STEP)
    bad.sends(30 * MIB)
    good.answers.pop()(True)
    place.grow(2 * MAX_WAITING)
    assert place.unsolicited.given_up == 0


def test_growth_callbacks_are_called(place: Place) -> None:
    """At each check while the process has grown and something waits."""
    calls: list[int] = []
    place.unsolicited.when_grown(lambda: calls.append(1))
    place.grow(0)
    assert not calls
    place.grow(STEP)
    place.grow(0)
    assert len(calls) == 2


def test_check_intervals() -> None:
    """Rarely; often while the process has grown and something waits; never without a socket."""
    unsolicited = UnsolicitedMessages(memory=lambda: memory)
    memory = MIB
    assert unsolicited.pause is None
    peer = Peer(socket.AF_INET)
    unsolicited.add(peer)
    unsolicited.look(0)
    assert unsolicited.pause == LOOK_SELDOM
    memory += STEP
    unsolicited.look(LOOK_SELDOM / 2)
    assert unsolicited.pause == LOOK_SELDOM
    unsolicited.look(LOOK_SELDOM)
    assert unsolicited.pause == LOOK_CLOSELY
    peer.close()


def test_memory_that_cannot_be_read_for_a_moment(place: Place) -> None:
    """While no descriptor is free, for example: what was counted before still counts."""
    peer, _ = place.peers
    place.grow(0)
    place.grow(STEP)
    peer.sends(30 * MIB)
    grown, place.memory = place.memory + MAX_WAITING, 0
    place.grow(0)
    place.grow(grown)
    assert peer.given_up == 1


def test_connections_while_no_descriptor_is_free(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """None can be found then; the check fails nobody."""

    def refused(path: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", refused)
    assert not [*connections_to({place.peers[0].endpoint})]


def test_connections_to_an_endpoint(place: Place) -> None:
    """The connections of this process, by their descriptors."""
    one, other = place.peers
    found = dict(connections_to({one.endpoint}))
    assert found == {one.ours.fileno(): one.endpoint}
    assert dict(connections_to({one.endpoint, other.endpoint})).keys() == {one.ours.fileno(), other.ours.fileno()}
    assert not dict(connections_to(()))
