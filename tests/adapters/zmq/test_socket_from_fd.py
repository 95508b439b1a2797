"""Short use of descriptors that belong to another owner."""

from __future__ import annotations

import os
import socket

import pytest

from lightbus.adapters.zmq.socket_from_fd import socket_from_fd


def test_borrowed_descriptor_stays_open() -> None:
    """Its owner can go on using it, also after an error."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with socket_from_fd(ours.fileno()) as found:
            found.send(b"hello")
        with pytest.raises(OSError), socket_from_fd(ours.fileno()) as found:  # noqa: PT011 - which one does not matter
            found.getsockopt(-1, -1)
        assert theirs.recv(10) == b"hello"
        ours.send(b"again")


def test_closed_or_foreign_descriptor_raises_oserror() -> None:
    """Callers must expect an OSError."""
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    ours.close()
    theirs.close()
    with pytest.raises(OSError, match="Bad file descriptor"), socket_from_fd(number):
        pass
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="non-socket"), socket_from_fd(reader):
        pass
    os.close(reader)
    os.close(writer)
