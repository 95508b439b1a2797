"""A thread polls several sockets by their descriptors, and misses no edge-triggered report."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import zmq

from lightbus.adapters.zmq.socket_poll import SocketPoll

LONG = 20_000
"""Milliseconds after which a test would fail."""


@pytest.fixture
def pair() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    near, far = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    near.bind("inproc://pair")
    far.connect("inproc://pair")
    yield near, far
    context.destroy(linger=0)


def next_of(poll: SocketPoll) -> list[zmq.Socket[bytes] | int]:
    """Return the next result: a descriptor may report something other than a message."""
    while not (found := poll.wait(LONG)):
        pass
    return found


def test_all_messages_are_found_despite_the_edge_trigger(pair: tuple[zmq.Socket[bytes], ...]) -> None:
    near, far = pair
    poll = SocketPoll()
    poll.add(near)
    for number in range(5):
        far.send(b"%d" % number)
    read = []
    for _ in range(5):
        assert next_of(poll) == [near]
        read.append(near.recv(zmq.NOBLOCK))
    assert read == [b"0", b"1", b"2", b"3", b"4"]
    assert poll.wait(0) == []
    far.send(b"later")
    assert next_of(poll) == [near]


def test_messages_before_add_are_found(pair: tuple[zmq.Socket[bytes], ...]) -> None:
    near, far = pair
    far.send(b"early")
    assert near.poll(LONG)  # this clears the report of the descriptor
    poll = SocketPoll()
    poll.add(near)
    assert poll.wait(LONG) == [near]


def test_descriptors_and_sockets_are_polled_together(pair: tuple[zmq.Socket[bytes], ...]) -> None:
    near, far = pair
    read, write = os.pipe()
    try:
        poll = SocketPoll()
        poll.add(near)
        poll.add_descriptor(read)
        os.write(write, b"x")
        assert next_of(poll) == [read]
        far.send(b"too")
        while set(poll.wait(LONG)) != {read, near}:
            pass
        poll.remove(near)
        assert poll.wait(LONG) == [read]
    finally:
        os.close(read)
        os.close(write)
