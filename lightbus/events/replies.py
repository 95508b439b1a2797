"""How a coordinator answers: by messages to whoever speaks through a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..wire import envelope
from ..wire.envelope import Message

__all__ = ["Send", "sender"]

Send: TypeAlias = Callable[[bytes, int, Message], None]
"""Sends a message to a routing id, as the answer to a call id; 0 where it is none."""


def sender(reply: Callable[[bytes, bytes], bool]) -> Send:
    """Return what sends messages by way of what sends frames."""

    def send(routing_id: bytes, call_id: int, message: Message) -> None:
        reply(routing_id, envelope.encode(message, call_id))

    return send
