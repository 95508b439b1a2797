"""Calls `pours`, and blocks until a file appears: its event loop, or a plain thread that calls nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import lightbus

DOOR, UNTIL = sys.argv[1:]

bus = lightbus.create(service_name="caller")


def stand_still() -> None:
    print("blocks", flush=True)
    while not Path(UNTIL).exists():
        time.sleep(0.05)


async def main() -> None:
    await bus.pours.begin.call_async(until=UNTIL)
    stand_still()
    await bus.pours.quick.call_async(bus_options={"timeout": 60})
    print("goes on", flush=True)


if DOOR == "async":
    asyncio.run(main())
else:
    bus.pours.begin(until=UNTIL)
    stand_still()
    bus.pours.quick(bus_options={"timeout": 60})
    print("goes on", flush=True)
bus.client.close()
