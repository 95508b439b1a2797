"""The methods of pyzmq's compiled socket class, without the Python functions that `zmq.Socket` wraps around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import zmq

__all__ = ["Compiled", "compiled"]


class Compiled(NamedTuple):
    """The functions called for each message: `send(part, flags)`, `receive(flags, copy)`, `get(option)`."""

    send: Callable[..., None]
    receive: Callable[..., Any]
    get: Callable[[int], int]


def compiled(socket: zmq.Socket[bytes]) -> Compiled:
    """Return the compiled methods of a socket."""
    methods: Any = super(zmq.Socket, socket)
    return Compiled(methods.send, methods.recv, methods.get)
