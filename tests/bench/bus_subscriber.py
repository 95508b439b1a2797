"""A service that listens to the measured event. `bus_subscriber RUN SERVICE COUNT [kept | catch_up]`."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import lightbus

from .measure import EVENT, tell

QUIET = 3.0
"""Seconds without an event after which the rest counts as lost (best effort may drop)."""

PATIENCE = 30.0
"""Seconds until the first event must have come."""


class Count:
    """The received events; only touched from the loop."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.probed = asyncio.Event()
        self.received = 0
        self.first = self.last = 0.0

    async def on_registered(self, event_message: Any, user: str, email: str) -> None:
        """Count an event, or record that a probe arrived."""
        if user != self.user:
            self.probed.set()
            return
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.received += 1

    def complete(self, count: int) -> bool:
        """Return whether all have arrived, or no more are to be expected."""
        waited = time.monotonic() - self.last
        return self.received >= count or (self.received > 0 and waited > QUIET)


async def main(run: str, service: str, count: int, kind: str = "") -> None:
    """Listen, report readiness (or the first probe, if only that shows it), count until it is complete."""
    bus: Any = lightbus.create(service_name=service)
    seen = Count(run if kind else EVENT["user"])
    event = bus.auth.user_kept if kind else bus.auth.user_registered
    since = {"since": "0"} if kind == "catch_up" else None
    await bus.client.wait_for_apis_async("auth")
    event.listen(seen.on_registered, listener_name="count", bus_options=since)
    await bus.client.start_worker()
    async with asyncio.timeout(PATIENCE):
        if not kind:
            await seen.probed.wait()
        await bus.auth.subscribed.call_async(run=run)
        while not seen.received:
            await asyncio.sleep(0.05)
    while not seen.complete(count):
        await asyncio.sleep(0.05)
    tell({"received": seen.received, "first": seen.first, "last": seen.last})
    await bus.client.stop_worker()
    await bus.client.close_async()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
