"""Helpers for tests of discovery: record its notifications, and make the announcement of a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from helpers.waiting import wait_until_async
from lightbus.ports.discovery import Discovery
from lightbus.wire.announcement import Announcement, new_instance_id


class Ears:
    """The notifications of one discovery."""

    def __init__(self) -> None:
        self.found: list[Announcement] = []
        self.lost: list[str] = []

    async def hear(self, *expected: Announcement) -> None:
        """Wait until as many peers were found as expected, and compare."""
        await wait_until_async(lambda: len(self.found) >= len(expected), what=f"{len(expected)} found: {self.found}")
        assert self.found == list(expected)

    async def lose(self, *expected: Announcement) -> None:
        """Wait until as many peers were lost as expected, and compare."""
        await wait_until_async(lambda: len(self.lost) >= len(expected), what=f"{len(expected)} lost: {self.lost}")
        assert self.lost == [announcement.instance for announcement in expected]


@asynccontextmanager
async def listening(made: Discovery) -> AsyncIterator[Ears]:
    """Start a discovery, and stop it in the end."""
    ears = Ears()
    await made.start(ears.found.append, ears.lost.append)
    try:
        yield ears
    finally:
        await made.stop()


def announcement(bus: str, **fields: Any) -> Announcement:
    """Return the announcement of a worker in mode host."""
    own = {"instance": new_instance_id(), "service": "auth-service", "process": "p", "host": "web-1"}
    return Announcement(**{"bus": bus, **own, "api_names": ("auth",), **fields})
