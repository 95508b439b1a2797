"""
Many workers in one process, each with its own engine and sockets: for measuring the dashboard on a large bus.

    python crowd.py '{"first": 0, "workers": 25, "services": 20, "procedures": 10, "rate": 1250, "calls": 25}'

Worker number n is of service n modulo `services`, and has an API of so many procedures, which fires five events. It has
a group that listens to one of the next worker's events, and calls the next worker, one procedure after the other. All
workers of the process together fire `rate` events and make `calls` calls per second,
as soon as they are there. Each second it says on a line how many events it has fired so far.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import lightbus
from lightbus.adapters.host.nearby import NearbyDiscovery
from lightbus.adapters.host.places import places_of_user
from lightbus.ports.discovery import Found, Lost
from lightbus.wire.announcement import Announcement

EVENTS = 5
TICK = 1.0
"""Seconds in which each worker fires once."""


def api_of(service: str, procedures: int) -> lightbus.Api:
    """Return the API of a service."""

    async def look_up(self: Any, number: int, text: str = "") -> dict[str, Any]:
        """Return the argument."""
        return {"number": number, "text": text}

    members: dict[str, Any] = {f"look_up_{number:02}": look_up for number in range(procedures)}
    for number in range(EVENTS):
        members[f"changed_{number}"] = lightbus.Event(
            [lightbus.Parameter("number", int), lightbus.Parameter("by", str)]
        )
    made: lightbus.Api = type("CrowdApi", (lightbus.Api,), {**members, "Meta": type("Meta", (), {"name": service})})()
    return made


async def on_changed(message: lightbus.EventMessage, number: int, by: str) -> None:
    """Handle an event at once."""


class NextOnly(NearbyDiscovery):
    """
    Announces to everybody, and hears of the peer that serves one API alone, where that is in this process.

    Else each of a hundred workers would keep a hundred connections, in a few processes on one host: that would take
    more than the dashboard that looks at them, which is what is measured.
    """

    here: ClassVar[list[NextOnly]] = []

    def __init__(self, bus: str, api: str) -> None:
        super().__init__(bus, places_of_user(bus, Path(os.environ["LIGHTBUS_DATA_DIR"])))
        self._api = api
        self._own: Announcement | None = None

    async def start(self, found: Found, lost: Lost) -> None:
        """Register; no directory is read."""
        self._table.open(found, lost)
        self.here.append(self)
        for other in self.here:
            self._hear_of(other)

    async def announce(self, announcement: Announcement) -> None:
        """Record it, and notify the others in this process."""
        await super().announce(announcement)
        self._own = announcement
        for other in self.here:
            other._hear_of(self)

    def _hear_of(self, other: NextOnly) -> None:
        if other._own is not None and any(api.name == self._api for api in other._own.apis or ()):
            self._table.heard(other._own)


class Worker:
    """One worker of the crowd, and the one that it follows."""

    def __init__(self, number: int, following: int, given: dict[str, Any]) -> None:
        self.api, self.next = f"shard-{number:03}", f"shard-{following:03}"
        self.service = f"service-{number % given['services']:02}"
        self.bus = lightbus.create(
            service_name=self.service,
            process_name=f"{self.service}-{number:03}",
            discovery=lambda bus: NextOnly(bus, self.next),
        )
        self.bus.client.register_api(api_of(self.api, given["procedures"]))
        self.bus.client.listen_for_event(self.next, "changed_0", on_changed, listener_name=f"follow-{self.next}")
        self.fired = 0
        self._procedures = itertools.cycle(range(given["procedures"]))
        self._events = itertools.cycle(range(EVENTS))

    async def fire(self, count: int) -> None:
        """Fire so many events by one commit."""
        event = getattr(getattr(self.bus, self.api), f"changed_{next(self._events)}")
        numbers = range(self.fired, self.fired + count)
        await event.fire_many_async([{"number": number, "by": self.service} for number in numbers])
        self.fired += count

    async def call(self) -> None:
        """Call a procedure of the next service."""
        name = f"look_up_{next(self._procedures):02}"
        await getattr(getattr(self.bus, self.next), name).call_async(number=1)


async def keep_firing(workers: list[Worker], rate: float) -> None:
    """Fire this many events per second, all workers together; missed ones are made up for."""
    began, done = time.monotonic(), 0
    told = began
    for worker in itertools.cycle(workers):
        share = TICK / len(workers)
        due = (time.monotonic() - began) * rate
        count = min(round(rate * TICK), int(due) - done)
        if count > 0:
            await worker.fire(count)
            done += count
        if time.monotonic() > told + 1:
            told = time.monotonic()
            print(f"fired {done}", flush=True)
        await asyncio.sleep(share)


async def keep_calling(workers: list[Worker], rate: float) -> None:
    """Make this many calls per second, one after the other."""
    for worker in itertools.cycle(workers):
        try:
            await worker.call()
        except lightbus.LightbusException as error:
            print(f"a call failed: {error}", flush=True)
        await asyncio.sleep(1 / rate)


async def main(given: dict[str, Any]) -> None:
    """Run until the process is killed."""
    numbers = [*range(given["first"], given["first"] + given["workers"])]
    workers = [
        Worker(number, following, given) for number, following in zip(numbers, [*numbers[1:], numbers[0]], strict=True)
    ]
    for worker in workers:
        await worker.bus.client.start_worker()
    print("Ready", flush=True)
    await asyncio.gather(keep_firing(workers, given["rate"]), keep_calling(workers, given["calls"]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
