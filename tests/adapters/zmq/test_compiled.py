"""The methods of pyzmq's compiled class."""

from __future__ import annotations

import pytest
import zmq

from lightbus.adapters.zmq.compiled import compiled


def test_they_send_and_receive() -> None:
    """They do what those of the socket do: parts, flags, options, and `Again` where nothing is there."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.bind("inproc://pair")
        other.connect("inproc://pair")
        sender, receiver = compiled(one), compiled(other)
        sender.send(b"first", zmq.SNDMORE)
        sender.send(b"second", 0)
        assert receiver.get(zmq.EVENTS) & zmq.POLLIN
        part = receiver.receive(zmq.NOBLOCK, False)
        assert (part.bytes, part.more) == (b"first", True)
        assert receiver.receive(zmq.NOBLOCK) == b"second"
        with pytest.raises(zmq.Again):
            receiver.receive(zmq.NOBLOCK)


def test_they_are_not_those_of_the_python_class() -> None:
    """A method of `zmq.Socket` itself is one Python function more for each message."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        assert compiled(socket).send != socket.send
        assert compiled(socket).send.__module__.startswith("zmq.backend")
