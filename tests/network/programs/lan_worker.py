"""
A worker on a host of a network: it returns the host's name, holds calls, fires by the clock, reports events.

With `EVERY` it fires `work.told` so often, in seconds, with the host's name and a number from 1.
"""

from __future__ import annotations

import asyncio
import os
import socket

import lightbus
from lightbus import Api, Event, Parameter

HOST = socket.gethostname()
EVERY = float(os.environ.get("EVERY", "0"))
bus = lightbus.create(service_name=f"at-{HOST}")


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # in one piece: several threads print


class WorkApi(Api):
    class Meta:
        name = os.environ.get("API", "work")

    told = Event([Parameter("host", str), Parameter("number", int)])

    async def where(self, note: str = "") -> str:
        """Return the name of this host."""
        return HOST

    async def hold(self, token: int) -> None:
        """Report that this call is being executed, and never end."""
        say(f"holding {token}")
        await asyncio.Event().wait()


def hear(host: str, number: int) -> None:
    say(f"heard {host} {number}")


async def fire() -> None:
    number = 0
    while EVERY:
        number += 1
        await bus.work.told.fire_async(host=HOST, number=number)
        say(f"fired {HOST} {number}")
        await asyncio.sleep(EVERY)


bus.client.register_api(WorkApi())
bus.work.told.listen(hear)
bus.client.add_background_task(fire())
