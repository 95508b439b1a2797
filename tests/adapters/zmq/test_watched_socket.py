"""What is known of one bound socket: who is behind a descriptor, and why a connection was refused."""

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


def test_who_comes_and_goes_is_known(pair: Pair) -> None:
    """A connection counts until it ends, and it is known where it came from."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), pair.endpoint, is_full=False)
    assert len(watched) == 1
    came_from = "from 127.0.0.1" if pair.endpoint.startswith("tcp") else OF_THIS_HOST
    assert watched.disconnected(pair.ours.fileno()) == ("", came_from)
    assert len(watched) == 0
    assert watched.disconnected(pair.ours.fileno()) == ("", NOT_SEEN)


def test_who_comes_when_it_is_full_is_turned_away(pair: Pair) -> None:
    """The connection is ended, and the reason is told once."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), pair.endpoint, is_full=True)
    assert pair.other.recv(1) == b""
    assert watched.disconnected(pair.ours.fileno())[0] == "too_many"
    assert watched.disconnected(pair.ours.fileno())[0] == ""


def test_a_number_that_is_another_connection_by_now_is_left_alone(pair: Pair) -> None:
    """Where the descriptor belongs to a connection of another socket, that one goes on."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), "tcp://127.0.0.1:1", is_full=True)
    pair.ours.send(b"x")
    assert pair.other.recv(1) == b"x"


def test_why_a_handshake_failed_is_told_once(pair: Pair) -> None:
    """A failure belongs to the connection that ends next, and to no other."""
    watched = WatchedSocket()
    watched.accepted(pair.ours.fileno(), pair.endpoint, is_full=False)
    watched.failed = "no_key"
    assert watched.disconnected(pair.ours.fileno())[0] == "no_key"
    assert watched.disconnected(pair.ours.fileno())[0] == ""
