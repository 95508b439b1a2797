"""A service that listens to the best effort event `stream.loose`, and blocks its loop with each of the first three."""

from __future__ import annotations

import os
import time

import lightbus
from lightbus import EventMessage

bus = lightbus.create(service_name="careless")
blocks = [float(os.environ["BLOCK"])] * 3


async def handle(event_message: EventMessage, number: int) -> None:
    if blocks:
        time.sleep(blocks.pop())
        if not blocks:
            print("goes on.", flush=True)


bus.stream.loose.listen(handle, listener_name="loose")
