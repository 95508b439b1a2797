"""The descriptors of libzmq's connections, used for a moment: they stay libzmq's, which may close them at any time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["socket_from_fd"]


@contextmanager
def socket_from_fd(descriptor: int) -> Iterator[socket.socket]:
    """Give the socket of a descriptor, and leave the descriptor open. Any use may raise OSError: it may be closed."""
    # And not a copy of it: when all descriptors are taken, none could be made.
    found = socket.socket(fileno=descriptor)
    try:
        yield found
    finally:
        found.detach()
