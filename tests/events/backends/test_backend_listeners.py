"""Listeners whose events a backend stores are subscribed there while they run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, listener
from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.events.backends.backend_listeners import BackendListeners
from lightbus.events.listening.consumer import Consumer
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.events.listening.loss_reports import LossReports
from lightbus.listener import Listener
from lightbus.membership.context import Identity
from lightbus.message import EventMessage
from lightbus.ports.events import (
    BackendContext,
    EventBackend,
    EventBackendUnreachable,
    EventInbox,
    EventSubscription,
    EventTopic,
    OutgoingEvent,
    SubscriptionRequest,
)
from lightbus.wire.records import Record, encode_record


class Process:
    """A process with one listener of auth.seen, and the backend that stores its events."""

    def __init__(self, bus: str) -> None:
        self.given: list[int] = []
        self.listener = replace(listener(self.handle), group="{service_name}-greeter")
        context = Context()
        self.runner: ListenerRunner | None = context.runner(self.listener)
        self.losses = LossReports(context, Counter())
        self.is_kept = True
        self.backend = MemoryEventBackend(BackendContext(bus=bus, instance="1" * 16))
        self.listeners = BackendListeners(Identity(bus=bus, service="shop", process="p"), self, cast(Consumer, self))

    def handle(self, message: EventMessage) -> None:
        """Record the event."""
        self.given.append(message.kwargs["n"])

    def runner_of(self, listener: Listener) -> ListenerRunner | None:
        """Return the running listener."""
        return self.runner

    def has(self, api: str) -> bool:
        """Return whether the backend stores the events."""
        return self.is_kept

    async def get(self, api: str) -> EventBackend:
        """Return the backend."""
        return self.backend

    async def fire(self, number: int) -> None:
        """Let an event be stored."""
        record = encode_record(Record(f"id-{number}", 1, 0.0, {"n": number}))
        topic = EventTopic("seen", 1)
        event = OutgoingEvent(api="auth", topic=topic, id=f"id-{number}", record=record, published_at=0.0)
        await self.backend.publish([event])

    async def members(self) -> int:
        """Return the number of members."""
        return sum(len(group.members) for group in await self.backend.groups("auth"))


def run(test: Callable[[Process], Awaitable[None]]) -> None:
    """Run a test with a separate process."""

    async def main() -> None:
        process = Process(f"bus-{test.__qualname__}")
        runner = process.runner
        await test(process)
        await process.listeners.stop()
        if runner is not None:
            await runner.stop(None)
        await process.backend.stop()

    asyncio.run(main())


def test_listener_gets_events_of_the_backend() -> None:
    """As a group of its service; it leaves with the process."""

    async def test(process: Process) -> None:
        await process.listeners.add(process.listener)
        await process.fire(1)
        await wait_until_async(lambda: process.given == [1])
        [group] = await process.backend.groups("auth")
        assert (group.name, len(group.members)) == ("shop-greeter", 1)
        await process.listeners.stop()
        assert await process.members() == 0

    run(test)


def test_listener_of_other_events_is_not_subscribed() -> None:
    """Nor one that has stopped."""

    async def test(process: Process) -> None:
        process.is_kept = False
        await process.listeners.add(process.listener)
        process.is_kept, process.runner = True, None
        await process.listeners.add(process.listener)
        assert await process.backend.groups("auth") == []

    run(test)


def test_listener_that_has_failed_leaves() -> None:
    """After its event in progress is finished; other members of its group get the rest."""

    async def test(process: Process) -> None:
        await process.listeners.add(process.listener)
        process.listeners.stopped(process.listener)
        process.listeners.stopped(process.listener)
        await process.listeners.stop()
        assert await process.members() == 0
        await process.fire(2)
        assert await process.backend.lag("auth", "shop-greeter") == 1
        assert process.given == []

    run(test)


def test_listener_leaves_although_it_cannot_acknowledge() -> None:
    """Its process would keep the partitions while it runs, and no member of the group would get their events."""

    async def test(process: Process) -> None:
        subscribe = process.backend.subscribe

        async def subscribed(request: SubscriptionRequest, inbox: EventInbox) -> EventSubscription:
            subscription = await subscribe(request, inbox)

            async def fails(handled: Mapping[EventTopic, int]) -> None:
                raise EventBackendUnreachable("not now")

            subscription.ack = fails  # type: ignore[method-assign]
            return subscription

        process.backend.subscribe = subscribed  # type: ignore[assignment,method-assign]
        await process.listeners.add(process.listener)
        await process.fire(1)
        await wait_until_async(lambda: process.given == [1])
        await process.listeners.remove(process.listener)
        assert await process.members() == 0

    run(test)


def test_event_backend_that_fails_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged; what is to be stopped after it is stopped."""

    async def test(process: Process) -> None:
        await process.listeners.add(process.listener)
        [source] = process.listeners._sources.values()
        subscription: Any = source._subscription
        close = subscription.close

        async def fails(*, is_done: bool) -> None:
            await close(is_done=is_done)
            raise ValueError("a bug in an event backend of one's own")

        subscription.close = fails
        await process.listeners.stop()

    run(test)
    assert "A listener could not leave its event backend" in caplog.text
    assert "a bug in an event backend" in caplog.text


def test_removed_listener_leaves() -> None:
    """It gets no more events; it can be added again."""

    async def test(process: Process) -> None:
        await process.listeners.add(process.listener)
        for _ in range(2):
            await process.listeners.remove(process.listener)
        assert await process.members() == 0
        await process.listeners.add(process.listener)
        await process.fire(1)
        await wait_until_async(lambda: process.given == [1])

    run(test)


def test_listener_that_is_stopped_while_the_backend_starts() -> None:
    """It is not subscribed."""

    async def test(process: Process) -> None:
        started = asyncio.Event()

        async def get(api: str) -> EventBackend:
            await started.wait()
            return process.backend

        process.get = get  # type: ignore[method-assign]
        adding = asyncio.create_task(process.listeners.add(process.listener))
        await asyncio.sleep(0)
        assert process.runner is not None
        await process.runner.stop(None)
        started.set()
        await adding
        assert await process.members() == 0

    run(test)
