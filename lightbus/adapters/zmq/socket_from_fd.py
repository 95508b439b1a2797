"""Short use of the descriptors of libzmq's connections: libzmq still owns them, and may close them at any time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["socket_from_fd"]


@contextmanager
def socket_from_fd(descriptor: int) -> Iterator[socket.socket]:
    """Yield a socket for a descriptor, which stays open. Any use may raise OSError: libzmq may have closed it."""
    # Not a duplicate of the descriptor: when all descriptors are in use, duplicating fails.
    found = socket.socket(fileno=descriptor)
    try:
        yield found
    finally:
        found.detach()
