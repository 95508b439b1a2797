"""The parts of a worker: built at once, notified of peers, and ended without a thread left. In memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from helpers import wait_until_async
from lightbus import Api, BusPath, Event, EventMessage
from lightbus.engine.assembly import WorkerParts, published_apis
from lightbus.service.api import ApiRegistry
from lightbus.testing import memory_bus


class AuthApi(Api):
    seen = Event(["n"])

    class Meta:
        name = "auth"


class PlainApi(Api):
    class Meta:
        name = "plain"

    def check(self) -> bool:
        return True


def parts_of(bus: BusPath) -> WorkerParts:
    worker: Any = bus.client.worker
    return worker.parts


def run(test: Callable[[BusPath, BusPath], Awaitable[None]]) -> None:
    """Run a test with a worker that publishes and one that may listen, both on this loop."""

    async def main() -> None:
        async with memory_bus(journal=True) as hub:
            publishes, listens = hub.create(), hub.create()
            publishes.client.register_api(AuthApi())
            await hub.start_async(publishes, listens)
            await test(publishes, listens)

    asyncio.run(main())


def test_apis_with_events_are_published() -> None:
    """APIs without events have no groups to learn."""
    registry = ApiRegistry()
    registry.add(AuthApi())
    registry.add(PlainApi())
    assert published_apis(registry) == {"auth"}


def test_every_peer_may_call_the_internal_apis() -> None:
    """About the worker, about events, and about schedules that run once per service."""

    async def test(publishes: BusPath, listens: BusPath) -> None:
        names = [api.meta.name for api in parts_of(publishes).internal_apis]
        assert names == ["internal.peer", "internal.events", "internal.schedules"]

    run(test)


def test_listeners_follow_publishers() -> None:
    """The consumer is notified of peers; a publisher that has left is not followed any more."""
    seen: list[int] = []

    async def handle(message: EventMessage, n: int) -> None:
        seen.append(n)

    async def test(publishes: BusPath, listens: BusPath) -> None:
        instance = publishes.client.engine.identity.instance
        consumer = parts_of(listens).consumer
        assert not consumer.is_live_at(instance)
        listens.auth.seen.listen(handle)
        await wait_until_async(lambda: consumer.is_live_at(instance))
        await publishes.auth.seen.fire_async(n=1)
        await wait_until_async(lambda: seen == [1])
        await publishes.client.stop_worker()
        await wait_until_async(lambda: not consumer.is_live_at(instance))

    run(test)


def test_a_journal_that_is_opened_later_is_served() -> None:
    """From any thread; and not after the end of the worker."""

    async def test(publishes: BusPath, listens: BusPath) -> None:
        parts, journals = parts_of(publishes), publishes.client.engine.journals
        await publishes.auth.seen.fire_async(n=1)
        await wait_until_async(lambda: len(parts.coordinator.journals.all()) == 1)
        before = len(journals._observers)
        await publishes.client.stop_worker()
        assert len(journals._observers) == before - 1

    run(test)
