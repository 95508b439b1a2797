"""A listener of best effort whose handler blocks the event loop on demand, until a file appears."""

from __future__ import annotations

import os
import time
from pathlib import Path

import lightbus

bus = lightbus.create(service_name="misses")
handled: list[int] = []


class MissesApi(lightbus.Api):
    class Meta:
        name = "misses"

    async def handled(self) -> int:
        return len(handled)


bus.client.register_api(MissesApi())


async def loosely(number: str) -> None:
    handled.append(1)
    if number == "block":
        print("blocks", flush=True)
        while not Path(os.environ["UNTIL"]).exists():
            time.sleep(0.05)


@bus.client.on_start()
def on_start() -> None:
    bus.stream.loose.listen(loosely, listener_name="loosely")
