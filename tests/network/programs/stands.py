"""A worker that blocks its event loop when asked to, until a file appears."""

from __future__ import annotations

import time
from pathlib import Path

import lightbus
from lightbus import Api

bus = lightbus.create(service_name="stands")


class StandsApi(Api):
    class Meta:
        name = "stands"

    async def quick(self) -> None:
        return None

    async def stand_still(self, until: str) -> None:
        while not Path(until).exists():
            time.sleep(0.05)


bus.client.register_api(StandsApi())
