"""Discovery without a network: tests beyond the contract in `tests/ports/test_discovery.py`."""

from __future__ import annotations

import asyncio
import threading

from helpers.discovering import announcement, listening
from lightbus.adapters.memory.discovery import MemoryDiscovery, MemoryHub, NoDiscovery


def test_memory_hub_spans_threads() -> None:
    """Discoveries in memory hear each other from different loops and threads."""
    hub, heard = MemoryHub(), threading.Event()
    announced = announcement("demo")

    async def listen() -> None:
        async with listening(MemoryDiscovery("demo", hub)) as ears:
            await ears.hear(announced)
            heard.set()
            await ears.lose(announced)

    async def speak() -> None:
        peer = MemoryDiscovery("demo", hub)
        async with listening(peer):
            await peer.announce(announced)
            await asyncio.to_thread(heard.wait, 10)

    thread = threading.Thread(target=asyncio.run, args=(listen(),))
    thread.start()
    asyncio.run(speak())
    thread.join(60)
    assert heard.is_set()


def test_memory_hub_ignores_a_closed_loop() -> None:
    """A member whose loop ended without `stop` does not keep the others from hearing."""
    hub, announced = MemoryHub(), announcement("demo")
    asyncio.run(MemoryDiscovery("demo", hub).start(lambda peer: None, lambda instance: None))

    async def scenario() -> None:
        peer = MemoryDiscovery("demo", hub)
        async with listening(MemoryDiscovery("demo", hub)) as ears, listening(peer):
            await peer.announce(announced)
            await ears.hear(announced)

    asyncio.run(scenario())


def test_no_discovery_does_nothing() -> None:
    """It accepts all calls, does nothing, and reports no problem."""

    async def scenario() -> None:
        off = NoDiscovery()
        async with listening(off) as ears:
            await off.announce(announcement("demo"))
            await off.withdraw()
        assert [ears.found, ears.lost, off.problem] == [[], [], None]

    asyncio.run(scenario())
