"""Descriptors that are used for a moment, and are somebody else's."""

from __future__ import annotations

import os
import socket

import pytest

from lightbus.adapters.zmq.socket_from_fd import socket_from_fd


def test_it_stays_open() -> None:
    """The one that it belongs to goes on using it, also where something fails."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with socket_from_fd(ours.fileno()) as found:
            found.send(b"hello")
        with pytest.raises(OSError), socket_from_fd(ours.fileno()) as found:  # noqa: PT011 - which one does not matter
            found.getsockopt(-1, -1)
        assert theirs.recv(10) == b"hello"
        ours.send(b"again")


def test_one_that_is_closed_or_no_socket() -> None:
    """Whoever borrows is prepared for an OSError."""
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
