"""A peer that exchanges messages with the coordinator of a publisher, as members of groups do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from helpers import wait_until_async
from helpers.publishing import Hub, Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.service.api import Api, Event
from lightbus.wire import envelope
from lightbus.wire.envelope import (
    AnyMessage,
    Join,
)

A, B, C = "a" * 16, "b" * 16, "c" * 16


class Auth(Api):
    seen = Event(["n"])
    gone = Event(["n"])

    class Meta:
        name = "auth"


class Talk:
    """A peer that exchanges frames with a publisher."""

    def __init__(self, publisher: Publishes, routing_id: bytes = b"me") -> None:
        self.heard: list[AnyMessage] = []
        self.routing_id = routing_id
        self._publisher = publisher
        publisher._dealers[routing_id] = self  # type: ignore[assignment]

    def arrive(self, frame: bytes) -> None:
        """Record an answer."""
        self.heard.append(envelope.decode(frame)[1])

    async def ask(self, message: AnyMessage) -> AnyMessage:
        """Send a message, and return the answer."""
        before = len(self.heard)
        self._publisher.handle(self.routing_id, 1, message)
        await wait_until_async(lambda: len(self.heard) > before)
        return self.heard[-1]

    async def join(self, member: str = B, group: str = "shop", **fields: Any) -> AnyMessage:
        """Join a group."""
        now = time.time()
        values = {
            "target": A, "api": "auth", "group": group, "events": ["seen"], "member": member, "host": "h",
            "presence": b"\xfe" + member.encode(), "created_at": now, "clock": now, "digest": "d", "since": None,
            "positions": [],
        }  # fmt: skip
        return await self.ask(Join(**{**values, **fields}))


def store_ago(journal: Journal, seconds: float, *events: NewEvent) -> None:
    """Store events as if that had been this many seconds ago."""
    journal.clock.now = lambda: machine_time() - seconds + journal.clock.offset  # type: ignore[method-assign]
    journal.append(events)
    del journal.clock.now


def run(path: Path, test: Callable[[Publishes], Awaitable[None]], **options: Any) -> None:
    """Run a test with a publisher."""

    async def main() -> None:
        publisher = Hub().publish(A, path / "a", Auth(), **options)
        try:
            await test(publisher)
        finally:
            publisher.close()

    asyncio.run(main())
