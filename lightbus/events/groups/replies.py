"""Sends messages and errors to the peer of a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...exceptions import LightbusException, ProtocolError
from ...wire import envelope
from ...wire.envelope import AnyMessage, Error

__all__ = ["Send", "error_for", "sender"]

Send: TypeAlias = Callable[[bytes, int, AnyMessage], None]
"""Sends a message to a routing id, as the answer to a call id; 0 if it is no answer."""


def sender(reply: Callable[[bytes, bytes], bool]) -> Send:
    """Return a function that encodes messages and sends them with `reply`."""

    def send(routing_id: bytes, call_id: int, message: AnyMessage) -> None:
        reply(routing_id, envelope.encode(message, call_id))

    return send


def error_for(message: AnyMessage, error: Exception) -> Error:
    """Return the answer to a message that could not be handled; errors of other types are blamed on its fields."""
    if isinstance(error, LightbusException):
        return Error(error.code, str(error), False, {})
    text = f"a {type(message).__name__} message has fields that do not fit: {error!s:.500}"
    return Error(ProtocolError.code, text, False, {})
