"""The socket of one call in one plain thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from helpers import wait_until
from lightbus.adapters.zmq.blocking_dealer import BlockingDealer


class Place:
    """A context, and a router that is bound when the test says so."""

    def __init__(self, directory: Path) -> None:
        self.context = zmq.Context()
        self.endpoint = f"ipc://{directory}/router"
        self.router = self.context.socket(zmq.ROUTER)
        socket = self.context.socket(zmq.DEALER)
        socket.set(zmq.IMMEDIATE, 1)  # as the transport sets it: no frame is queued for a connection
        self.dealer = BlockingDealer(socket, self.endpoint)

    def bind(self) -> None:
        """Bind the router."""
        self.router.bind(self.endpoint)

    def close(self) -> None:
        """Close everything."""
        self.dealer.close()
        self.router.close(linger=0)
        self.context.term()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give the test a dealer, and its router."""
    made = Place(tmp_path)
    yield made
    made.close()


def test_blocking_request_and_reply(place: Place) -> None:
    """Without any loop."""
    place.bind()
    wait_until(lambda: place.dealer.send(b"question"))
    assert place.dealer.was_used
    routing_id, frame = place.router.recv_multipart()
    place.router.send_multipart([routing_id, frame + b"!"])
    assert wait_until(lambda: place.dealer.receive(10.0)) == b"question!"


def test_send_fails_soon_where_nothing_listens(place: Place) -> None:
    """Nothing was sent, so the caller may try another peer."""
    assert not place.dealer.send(b"question")
    assert not place.dealer.was_used


@pytest.mark.parametrize("seconds", [0.0, 0.01, 60.0])
def test_waiting_for_a_reply_is_sliced(place: Place, seconds: float) -> None:
    """A receive returns soon, however long the caller would wait, so that it can check the peer."""
    place.bind()
    assert place.dealer.receive(seconds) is None


def test_receive_timeout_is_set_only_if_it_changes(place: Place) -> None:
    """Most receives have the same timeout as the one before."""
    asked: list[int] = []
    plain = place.dealer._socket

    class Noting:
        """A socket whose options are noted."""

        def set(self, option: int, value: int) -> None:
            asked.append(value)
            plain.set(option, value)

        def close(self, linger: int) -> None:
            plain.close(linger=linger)

    place.dealer._socket = Noting()  # type: ignore[assignment]
    for seconds in (60.0, 60.0, 0.01, 0.01, 60.0):
        assert place.dealer.receive(seconds) is None
    assert asked == [10, 50]
