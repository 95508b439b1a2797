"""Accepting one connection at a time: libzmq accepts as many as allowed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from helpers import wait_until
from lightbus.adapters.zmq.accept_limiter import AcceptLimiter

pytestmark = pytest.mark.skipif(
    not AcceptLimiter.POSSIBLE, reason="the set that libzmq waits at is shown by Linux only"
)


class Place:
    """A ROUTER that listens at a unix socket, and the events of its monitor."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.monitor = self.router.get_monitor_socket(zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED)
        self.router.bind(f"ipc://{path}")
        self.descriptor = int(recv_monitor_message(self.monitor)["value"])
        self.limiter = wait_until(lambda: AcceptLimiter.at(self.descriptor))
        self.connections: list[socket.socket] = []

    def come(self, count: int) -> None:
        """Let this many clients connect."""
        for _ in range(count):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(5)
            connection.connect(self.path)
            self.connections.append(connection)

    def taken(self, count: int) -> bool:
        """Return whether libzmq accepts exactly this many."""
        for _ in range(count):
            if not self.monitor.poll(5000):
                return False
            recv_monitor_message(self.monitor)
        return not self.monitor.poll(50)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.router.disable_monitor()
        self.monitor.close()
        self.router.close(linger=0)
        self.context.term()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place where others can connect."""
    made = Place(f"{tmp_path}/r")
    yield made
    made.close()


def test_accept_one_all_and_none(place: Place) -> None:
    """Each permission is for one connection; without one, all wait; with `accept_all`, all are accepted."""
    place.limiter.accept_none()
    place.come(5)
    assert place.taken(0)
    for _ in range(2):
        place.limiter.accept_one()
        assert place.taken(1)
    place.limiter.accept_all()
    assert place.taken(3)
    place.come(1)
    assert place.taken(1)


def test_waiting_connections_are_turned_away(place: Place) -> None:
    """They are closed; accepted ones stay, and later ones are accepted again."""
    place.come(1)
    assert place.taken(1)
    place.limiter.accept_none()
    place.come(3)
    assert place.limiter.turn_away() == ["", "", ""]
    assert [each.recv(100) for each in place.connections[1:]] == [b"", b"", b""]
    assert place.limiter.turn_away() == []
    assert place.connections[0].recv(1) != b""
    place.limiter.accept_all()
    place.come(1)
    assert place.taken(1)


def test_a_descriptor_that_is_no_listening_socket_has_no_limiter(place: Place) -> None:
    """Neither has a connection, nor a closed descriptor, nor one outside of libzmq's epoll set."""
    place.come(1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for descriptor in (place.connections[0].fileno(), listener.fileno(), 10_000):
            assert AcceptLimiter.at(descriptor) is None


def test_reused_descriptor_is_left_alone(place: Place) -> None:
    """After the listener is closed, nothing is done with its number."""
    limiter = AcceptLimiter(os.dup(place.descriptor), 0, 0)
    reader, writer = os.pipe()
    os.dup2(reader, limiter.descriptor)
    limiter.accept_none()
    assert limiter.turn_away() == []
    for each in (reader, writer, limiter.descriptor):
        os.close(each)
