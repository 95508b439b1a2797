"""
`python tests/chaos/leaders.py`: kill whichever server leads a JetStream, again and again, while events flow through it.

Three servers keep each event three times. Every event whose `fire()` has returned must be handled by every group, and
the first handlings of each key in order, also where events waited in the outbox meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import wait_until
from helpers.nats_servers import NatsCluster
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.adapters.nats.places import StreamPlaces
from lightbus.events.backends.backend_publisher import BackendPublisher
from lightbus.testing import MemoryBus

__all__ = ["Leaders", "leaders", "main"]

KEYS = 64
"""Of events, each fired one after the other; all of them side by side."""

GROUPS = {"mail": 2, "stock": 1}
"""How many members each has."""


class ShopApi(Api):
    sold = Event(parameters=["item", "number"], key="item")

    class Meta:
        name = "shop"


class Group:
    """The events of the members of a group."""

    def __init__(self) -> None:
        self.times: Counter[tuple[str, int]] = Counter()
        self.newest: defaultdict[str, int] = defaultdict(lambda: -1)
        self.inversions = 0
        self._lock = threading.Lock()

    def __call__(self, message: EventMessage) -> None:
        item, number = message.kwargs["item"], message.kwargs["number"]
        with self._lock:
            self.times[item, number] += 1
            if self.times[item, number] == 1:
                self.inversions += number < self.newest[item]
                self.newest[item] = max(number, self.newest[item])


@dataclass(slots=True)
class Leaders:
    """The actions and their results."""

    events: int = 0
    kills: int = 0
    put_by: int = 0
    seconds: float = 0.0
    groups: dict[str, Group] = field(default_factory=lambda: {name: Group() for name in GROUPS})

    @property
    def lost(self) -> int:
        """The number of missing handlings."""
        return sum(self.events - len(group.times) for group in self.groups.values())

    @property
    def duplicates(self) -> int:
        """The number of repeated handlings."""
        return sum(group.times.total() - len(group.times) for group in self.groups.values())

    @property
    def inversions(self) -> int:
        """The number of first handlings that came after a later event of their key."""
        return sum(group.inversions for group in self.groups.values())

    def line(self) -> str:
        """Return it as it is in the documents."""
        handled = sum(group.times.total() for group in self.groups.values())
        order = "order kept" if not self.inversions else f"inversions {self.inversions}"
        return (
            f"events {self.events}, groups {len(self.groups)}, handled {handled}, lost {self.lost}, duplicates "
            f"{self.duplicates}, kills {self.kills}, waited in the outbox {self.put_by}, {order}, "
            f"minutes {self.seconds / 60:.1f}"
        )


def leaders(events: int, *, every: float, least: int = 1, seed: int = 0) -> Leaders:
    """
    Fire so many events, and kill the leader every so many seconds, give or take a half, and `least` times at least.

    Return when all was handled, or nothing more came for a minute.
    """
    found = Leaders()
    with NatsCluster() as cluster, MemoryBus(journal=True) as hub:
        options = {"backend": "jetstream", "servers": cluster.urls, "replicas": 3}
        settings = {"apis": {"default": {"events": options}}}
        shop = hub.create(settings, service_name="shop")
        shop.client.register_api(ShopApi())
        members = []
        for name, count in GROUPS.items():
            for _ in range(count):
                members.append(hub.create(settings, service_name=name))
                members[-1].shop.sold.listen(found.groups[name], listener_name="desk", bus_options={"since": "0"})
        hub.start(shop, *members, timeout=60.0)
        stream = StreamPlaces(shop.client.engine.identity.bus, "shop").stream
        wait_until(lambda: cluster.leader(stream), 60.0)
        fired = threading.Event()
        killer = threading.Thread(target=_kill, args=(cluster, stream, found, every, least, fired, random.Random(seed)))
        killer.start()
        began = time.monotonic()
        try:
            asyncio.run(_fire(shop, events, found))
        finally:
            fired.set()
            killer.join()
        _settle(found)
        found.seconds = time.monotonic() - began
        worker = shop.client.worker
        if worker is not None and worker.parts is not None:
            assert isinstance(worker.parts.outgoing, BackendPublisher)
            found.put_by = worker.parts.outgoing.counts["put_by"]
    return found


async def _fire(shop: BusPath, events: int, found: Leaders) -> None:
    async def one_after_the_other(item: str, count: int) -> None:
        for number in range(count):
            await shop.shop.sold.fire_async(item=item, number=number)
            found.events += 1

    counts = [events // KEYS + (key < events % KEYS) for key in range(KEYS)]
    await asyncio.gather(*(one_after_the_other(f"item{key}", count) for key, count in enumerate(counts)))


def _kill(
    cluster: NatsCluster,
    stream: str,
    found: Leaders,
    every: float,
    least: int,
    fired: threading.Event,
    chance: random.Random,
) -> None:
    while not fired.wait(every * chance.uniform(0.5, 1.5)) or found.kills < least:
        leader = cluster.leader(stream)
        if leader is None:
            continue
        cluster.servers[leader].kill()
        found.kills += 1
        print(f"{found.kills} kills, {found.events} events fired", file=sys.stderr, flush=True)
        fired.wait(every / 2)
        cluster.servers[leader].start()


def _settle(found: Leaders) -> None:
    """Wait until all is handled, as long as there is progress."""
    before = -1
    while found.lost and before != found.lost:
        before = found.lost
        deadline = time.monotonic() + 60.0
        while found.lost == before and time.monotonic() < deadline:
            time.sleep(0.1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, print the results, and return the exit code: 1 if any event was lost, or out of order."""
    parser = argparse.ArgumentParser(prog="nox -s leaders --", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="how many are fired (200000)")
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two kills, on average (8)")
    parser.add_argument("--seed", type=int, default=0, help="repeats the pauses (0)")
    options = parser.parse_args(argv)
    found = leaders(options.events, every=options.every, seed=options.seed)
    print(f"{found.line()}, seed {options.seed}", flush=True)
    return 1 if found.lost or found.inversions else 0


if __name__ == "__main__":
    sys.exit(main())
