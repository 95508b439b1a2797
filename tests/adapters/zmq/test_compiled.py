"""The methods of pyzmq's compiled class."""

from __future__ import annotations

import pytest
import zmq

from lightbus.adapters.zmq.compiled import compiled


def test_compiled_methods_send_and_receive() -> None:
    """They behave like those of the socket: parts, flags, options, and `Again` if nothing is there."""
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


def test_compiled_methods_skip_the_python_class() -> None:
    """A method of `zmq.Socket` itself is one more Python function for each message."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        assert compiled(socket).send != socket.send
        assert compiled(socket).send.__module__.startswith("zmq.backend")
