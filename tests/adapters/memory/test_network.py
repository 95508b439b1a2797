"""A network in memory: connections, and bounds of frames on their way."""

from __future__ import annotations

import os
import sys
from collections import deque

import pytest

from lightbus.adapters.memory import network as module
from lightbus.adapters.memory.network import Arrived, MemoryNetwork, MemoryPipe


class Socket:
    """A socket that reads when the test says so."""

    def __init__(self, max_message_size: int = 1000) -> None:
        self.arrived: deque[Arrived] = deque()
        self.max_message_size = max_message_size
        self.connections: list[MemoryPipe] = []
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def connected(self, connection: MemoryPipe) -> None:
        self.connections.append(connection)

    def disconnected(self, connection: MemoryPipe) -> None:
        self.connections.remove(connection)

    def read(self) -> bytes:
        """Read the first frame."""
        connection, lane, frame = self.arrived.popleft()
        assert connection is not None
        assert lane is not None
        connection.read(lane, frame)
        return bytes(frame)


class Place:
    """A client and a server on a network."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.client, self.server = Socket(), Socket()
        self.network.bind("here", self.server)
        connection = self.network.connect("here", self.client)
        assert connection is not None
        self.connection = connection
        self.client.connected(connection)


@pytest.fixture
def place() -> Place:
    """Return two sockets that are connected."""
    return Place()


def test_one_socket_at_a_time_is_bound(place: Place) -> None:
    """It keeps the endpoint until it leaves; clients wait for it and are woken."""
    other, waiting = Socket(), Socket()
    assert not place.network.bind("here", other)
    place.network.unbind("here", other)  # that socket was never bound
    assert place.network.is_bound("here")
    place.network.unbind("here", place.server)
    assert place.network.connect("here", waiting) is None
    place.network.wait_for_bind("here", waiting)
    assert place.network.bind("here", other)
    assert waiting.woken == 1


@pytest.mark.parametrize("to_client", [True, False])
def test_frames_are_bounded_by_number(place: Place, monkeypatch: pytest.MonkeyPatch, to_client: bool) -> None:
    """Beyond the high-water mark none is taken; a refused sender is woken when half of them were read."""
    monkeypatch.setattr(module, "HIGH_WATER", 10)
    sender, reader = (place.server, place.client) if to_client else (place.client, place.server)
    taken = [place.connection.send(b"%d" % number, to_client=to_client) for number in range(12)]
    assert taken == [True] * 10 + [False] * 2
    assert [reader.read() for _ in range(4)] == [b"0", b"1", b"2", b"3"]
    assert sender.woken == 0
    reader.read()
    assert sender.woken == 1
    assert place.connection.send(b"more", to_client=to_client)


def test_frames_are_bounded_by_bytes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number of bytes may wait; a single frame is accepted, whatever its size."""
    monkeypatch.setattr(module, "MAX_WAITING", 100)
    assert place.connection.send(b"x" * 500, to_client=True)
    assert not place.connection.send(b"x", to_client=True)
    assert place.connection.send(b"x", to_client=False)  # the other direction has a limit of its own
    place.client.read()
    assert place.connection.send(b"x", to_client=True)


def test_too_large_frame_ends_the_connection(place: Place) -> None:
    """Both sides are notified, and it does not arrive."""
    place.connection.send(b"x" * 1001, to_client=False)
    assert not place.connection.is_open
    assert (place.client.connections, place.server.connections, len(place.server.arrived)) == ([], [], 0)
    place.connection.end()  # a second end does nothing


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_forked_process_has_a_separate_network(place: Place) -> None:
    """Without sockets and held locks of the parent."""
    place.network.lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(int(place.network.is_bound("here")))
    place.network.lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert place.network.is_bound("here")
