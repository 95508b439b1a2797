"""Handlers that ignore all messages of a worker: for tests of membership."""

from __future__ import annotations

from typing import Any

from lightbus.engine.binding import Handlers, MessageHandler, Outlet

__all__ = ["no_handlers"]


class NoHandler:
    """Ignores everything."""

    def __init__(self) -> None:
        self.handlers: dict[type, MessageHandler] = {}

    def handle(self, *arguments: object) -> None: ...

    def describe(self, routing_id: bytes) -> str:
        return f"the connection {routing_id.hex()}"

    def drain(self) -> None: ...

    def tick(self, now: float) -> None: ...

    def loop_stalled(self, now: float) -> None: ...

    def subscribed(self, topic: bytes, subscribed: bool) -> None: ...


def no_handlers(outlet: Outlet) -> Handlers:
    """Return handlers that ignore everything."""
    nobody: Any = NoHandler()
    return Handlers(server=nobody, publisher=nobody, coordinator=nobody, outgoing=nobody)
