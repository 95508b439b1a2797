"""
`python tests/bench/stores.py`: what keeps events, side by side: journals, and a JetStream of one server and of three.

How long `.fire()` takes, how many events a second are fired together, and how many a group catches up with that was
away. All processes of the bus are threads of this one, and the servers run on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import wait_until
from helpers.nats_servers import NatsCluster, NatsServer
from lightbus import Api, Event
from lightbus.testing import MemoryBus

__all__ = ["Row", "main", "measure"]

STORES = ("journal", "jetstream", "jetstream, three servers")


class ShopApi(Api):
    sold = Event(parameters=["number", "text"])

    class Meta:
        name = "shop"


class Row(NamedTuple):
    """One store: seconds that `.fire()` takes (median, 99th percentile), and events a second."""

    store: str
    fire: float
    slow_fire: float
    fired_together: float
    caught_up: float

    def __str__(self) -> str:
        times = f"{self.fire * 1e3:.1f} ms | {self.slow_fire * 1e3:.1f} ms"
        return f"| {self.store} | {times} | {self.fired_together:,.0f} | {self.caught_up:,.0f} |"


def measure(store: str, events: int, single: int) -> Row:
    """Measure one store with this many events that are fired together, and this many one by one."""
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"backend": store.partition(",")[0]}
        if store == STORES[1]:
            options["servers"] = stack.enter_context(NatsServer()).url
        elif store == STORES[2]:
            options |= {"servers": stack.enter_context(NatsCluster()).urls, "replicas": 3, "timeout": 5.0}
        hub = stack.enter_context(MemoryBus(journal=store == STORES[0]))
        settings = {"apis": {"default": {"events": options}}}
        shop, mail = (hub.create(settings, service_name=name) for name in ("shop", "mail"))
        shop.client.register_api(ShopApi())
        hub.start(shop)
        text = "x" * 100
        wait_until(lambda: shop.shop.sold.fire(number=0, text=text).native_id, 60.0)
        taken = []
        for number in range(single):
            began = time.perf_counter()
            shop.shop.sold.fire(number=number, text=text)
            taken.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(events // 1000):
            shop.shop.sold.fire_many([{"number": number, "text": text} for number in range(1000)])
        together = events / (time.perf_counter() - began)
        received: list[int] = []

        async def handle(number: int, text: str) -> None:
            received.append(number)

        mail.shop.sold.listen(handle, listener_name="desk", bus_options={"since": "0"})
        began = time.perf_counter()
        hub.start(mail)
        wait_until(lambda: len(received) >= events + single + 1, 120.0)
        caught_up = len(received) / (time.perf_counter() - began)
    taken.sort()
    return Row(store, statistics.median(taken), taken[int(len(taken) * 0.99)], together, caught_up)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(prog="nox -s stores --", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="how many are fired together (10000)")
    parser.add_argument("--single", type=int, default=500, help="how many are fired one by one (500)")
    options = parser.parse_args(argv)
    print(
        "| store | `.fire()`, median | 99 % | fired together, events/s | caught up, events/s |\n|---|---|---|---|---|"
    )
    for store in STORES:
        print(measure(store, options.events, options.single), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
