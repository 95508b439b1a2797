"""How long a new process takes until it knows four workers of its host, in ms; `--plain` without the probe."""

from __future__ import annotations

import asyncio
import sys
import time

from lightbus.adapters.mdns import discovery
from lightbus.wire.announcement import Announcement


async def milliseconds(count: int, bus: str) -> float:
    found = set()
    complete = asyncio.Event()

    def hear(announcement: Announcement) -> None:
        found.add(announcement.instance)
        if len(found) == count:
            complete.set()

    mdns = discovery.ZeroconfDiscovery(bus)
    began = time.perf_counter()
    await mdns.start(hear, lambda instance: None)
    await asyncio.wait_for(complete.wait(), 10)
    taken = time.perf_counter() - began
    await mdns.stop()
    return 1000 * taken


if "--plain" in sys.argv:
    discovery._look_around = lambda zeroconf: None
print(round(asyncio.run(milliseconds(4, "find"))))
