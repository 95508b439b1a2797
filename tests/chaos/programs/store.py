"""A publisher: fires events at a steady pace, some in a row, and records each once `fire_async` has returned."""

from __future__ import annotations

import asyncio
import os
import time

import lightbus
from chaos import beset
from chaos.ledger import Ledger, go

beset.begin()
bus = lightbus.create(service_name="store")
PACE = 1 / float(os.environ.get("CHAOS_RATE", "100"))
KEYS = 20

ROW = 20
"""Events that are fired one after the other without a pause: those are noted first, and committed together."""


class StoreApi(lightbus.Api):
    changed = lightbus.Event(["key", "number"], key="key")
    seen = lightbus.Event(["number"])

    class Meta:
        name = "store"


bus.client.register_api(StoreApi())


async def fire() -> None:
    ledger = Ledger("fired")
    while not go().exists():  # the groups are there: what is fired before they are created they are not owed
        await asyncio.sleep(0.05)
    number, due = 0, time.monotonic()
    while True:
        number += 1
        key = f"{os.getpid()}-{number % KEYS}" if number % 4 else ""
        try:
            if key:
                message = await bus.store.changed.fire_async(key=key, number=number)
            else:
                message = await bus.store.seen.fire_async(number=number)
        except lightbus.LightbusException:  # not accepted, as where the disk is full: nobody is owed anything
            pass
        else:
            ledger.note(message.id, key or "-", message.native_id)
        due = max(due + PACE, time.monotonic() - 1)
        if number % ROW == 0:
            await asyncio.sleep(max(0.0, due - time.monotonic()))


if os.environ.get("CHAOS_RATE"):
    bus.client.add_background_task(fire())
