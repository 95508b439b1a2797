"""A service that listens to `sale.sold` under the names in LISTENERS, and prints a line for each event it handles."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import lightbus
from lightbus import EventMessage

bus = lightbus.create(service_name="tally")
pause = float(os.environ.get("PAUSE", "0"))
block = float(os.environ.get("BLOCK", "0"))
"""Seconds for which the first event blocks the loop, as somebody's careless code does."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")  # in one piece: several threads say something


def make(name: str) -> Any:
    async def handle(event_message: EventMessage, number: int) -> None:
        global block
        if block:
            say("blocks.")
            seconds, block = block, 0.0
            time.sleep(seconds)
        if pause:
            await asyncio.sleep(pause)
        say(f"{name} {number}.")

    return handle


@bus.client.on_events_lost()
def lost(client: Any, group: str, count: int, **kwargs: Any) -> None:
    say(f"lost {group} {count}.")


for name in os.environ.get("LISTENERS", "count").split():
    bus.sale.sold.listen(make(name), listener_name=name)
