"""The number of bytes received over a connection, as the kernel counts them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from helpers import wait_until
from lightbus.adapters.zmq.meter import Meter

pytestmark = pytest.mark.skipif(not Meter.POSSIBLE, reason="only Linux counts what comes over a connection")


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection: ours, and the sender's."""
    with ExitStack() as stack:
        if request.param == "unix":
            ours, theirs = socket.socketpair()
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            theirs = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
        yield stack.enter_context(ours), stack.enter_context(theirs)


def read(ours: socket.socket, count: int) -> None:
    """Read this many bytes, in pieces as libzmq does."""
    while count:
        count -= len(ours.recv(min(count, 8192)))


def test_received_bytes_are_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    """Every byte counts once, however the stream is divided into reads."""
    ours, theirs = pair
    meter = Meter(ours.fileno())
    for sent in (10, 20_010, 120_010):
        theirs.sendall(b"x" * (sent - meter.latest))
        read(ours, sent - meter.latest)
        wait_until(lambda: meter.read() == sent)  # noqa: B023 - called at once
    assert meter.latest == 120_010


def test_meter_is_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """After `reset` only later bytes count."""
    ours, theirs = pair
    meter = Meter(ours.fileno())
    theirs.sendall(b"x" * 5000)
    read(ours, 5000)
    wait_until(lambda: meter.read() == 5000)
    meter.reset()
    assert (meter.latest, meter.read()) == (0, 0)
    theirs.sendall(b"x" * 7)
    read(ours, 7)
    wait_until(lambda: meter.read() == 7)


def test_ended_connection_keeps_its_count(pair: tuple[socket.socket, socket.socket]) -> None:
    """Another connection that has its descriptor now is neither touched nor counted."""
    ours, theirs = pair
    meter = Meter(ours.fileno())
    theirs.sendall(b"x" * 9)
    read(ours, 9)
    wait_until(lambda: meter.read() == 9)
    with socket.socket() as other:
        os.dup2(other.fileno(), ours.fileno())
        assert meter.read() == 9
        meter.end()
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Meter(ours.fileno())


def test_closed_peer_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """By its address, or its process on this host."""
    ours, theirs = pair
    meter = Meter(ours.fileno())
    meter.end()
    assert meter.peer in ("127.0.0.1", f"process {os.getpid()} of this host")
    assert theirs.recv(1) == b""
