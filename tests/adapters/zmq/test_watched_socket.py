"""One bound socket: the peer of each descriptor, and why a connection was refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lightbus.adapters.zmq.watched_socket import NOT_SEEN, OF_THIS_HOST, WatchedSocket


class Pair:
    """A listening socket, and a connection to it."""

    def __init__(self, stack: ExitStack, path: Path | None) -> None:
        if path is None:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            self.endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            self.other = stack.enter_context(socket.create_connection(listener.getsockname()))
        else:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()
            self.endpoint = f"ipc://{path}"
            self.other = stack.enter_context(socket.socket(socket.AF_UNIX))
            self.other.connect(str(path))
        self.other.settimeout(5)
        self.ours = stack.enter_context(listener.accept()[0])


@pytest.fixture(params=["tcp", "ipc"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Give a connection over TCP, and one over a unix socket."""
    with ExitStack() as stack:
        yield Pair(stack, tmp_path / "socket" if request.param == "ipc" else None)


def test_connections_are_tracked(pair: Pair) -> None:
    """Each counts until it ends, and its address is known."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), pair.endpoint, is_full=False)
    assert len(watched) == 1
    came_from = "from 127.0.0.1" if pair.endpoint.startswith("tcp") else OF_THIS_HOST
    assert watched.disconnected(pair.ours.fileno()) == ("", came_from)
    assert len(watched) == 0
    assert watched.disconnected(pair.ours.fileno()) == ("", NOT_SEEN)


def test_connection_beyond_the_limit_is_closed(pair: Pair) -> None:
    """The reason is reported once."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), pair.endpoint, is_full=True)
    assert pair.other.recv(1) == b""
    assert watched.disconnected(pair.ours.fileno())[0] == "too_many"
    assert watched.disconnected(pair.ours.fileno())[0] == ""


def test_descriptor_of_another_socket_is_left_alone(pair: Pair) -> None:
    """A connection of another socket that has this descriptor now continues."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), "tcp://127.0.0.1:1", is_full=True)
    pair.ours.send(b"x")
    assert pair.other.recv(1) == b"x"


def test_handshake_failure_is_reported_once(pair: Pair) -> None:
    """A failure belongs to the connection that ends next, and to no other."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), pair.endpoint, is_full=False)
    watched.failed = "no_key"
    assert watched.disconnected(pair.ours.fileno())[0] == "no_key"
    assert watched.disconnected(pair.ours.fileno())[0] == ""
