"""Events in backends are reported like those in journals, by one process of the publishers of an API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.events.backends.backend_answers import BackendAnswers, group_of_backend, with_backend
from lightbus.exceptions import EventBackendUnreachable
from lightbus.ports.events import BackendContext, EventBackend, EventTopic, OutgoingEvent, SubscriptionRequest
from lightbus.wire.records import Record, encode_record

SOLD = EventTopic("sold", 1)


class Inbox:
    """A subscriber that ignores everything."""

    def follow(self, states: Any) -> None:
        """Ignore it."""

    def revoke(self, partitions: Any) -> None:
        """Ignore it."""


class Shop:
    """A backend with three events of the API `shop`, of which the group `mail` has handled one and failed on one."""

    def __init__(self, bus: str) -> None:
        self.backend = MemoryEventBackend(BackendContext(bus=bus, instance="1" * 16))
        self.is_ours = self.is_there = True
        self.answers = BackendAnswers(self, is_ours=lambda api: self.is_ours, apis=lambda: ["shop", "other"])

    def has(self, api: str) -> bool:
        """Return whether it stores the events of an API."""
        return api == "shop"

    async def get(self, api: str) -> EventBackend:
        """Return the backend."""
        if not self.is_there:
            raise EventBackendUnreachable("it is away")
        return self.backend

    async def fill(self) -> None:
        """Store some events."""
        request = SubscriptionRequest(api="shop", events=("sold",), group="mail", member="1" * 16)
        self.subscription = await self.backend.subscribe(request, Inbox())
        for number in range(1, 4):
            record = encode_record(Record(f"id-{number}", 1, float(number), {"n": number}))
            event = OutgoingEvent(api="shop", topic=SOLD, id=f"id-{number}", record=record, published_at=float(number))
            await self.backend.publish([event])
        await asyncio.sleep(0)
        assert await self.subscription.dead_letter(SOLD, 2, 5, "no stamps")
        await self.subscription.ack({SOLD: 2})

    @property
    def store(self) -> str:
        """The name of the backend's place."""
        return self.backend.store("shop")


def run(test: Callable[[Shop], Awaitable[None]]) -> None:
    """Run a test with a separate shop."""

    async def main() -> None:
        shop = Shop(f"bus-{test.__qualname__}")
        await shop.fill()
        await test(shop)
        await shop.subscription.close()
        await shop.backend.stop()

    asyncio.run(main())


def test_groups_are_added_to_those_of_the_journals() -> None:
    """Unhandled events here are added to those in journals; other groups are reported as if they were new."""

    async def test(shop: Shop) -> None:
        journal = {"api": "shop", "name": "mail", "members": {"2" * 16: [0]}, "lag": 10, "dead": 20, "lost": 0}
        [(key, state)] = (await shop.answers.groups("shop")).items()
        assert key == ("shop", "mail")
        told = with_backend(journal, state)
        assert (told["lag"], told["dead"], set(told["members"])) == (11, 21, {"1" * 16, "2" * 16})
        new = group_of_backend((await shop.answers.groups())[key])
        assert (new["name"], new["events"], new["lag"], new["dead"]) == ("mail", ["sold"], 1, 1)
        assert time.time() - new["created_at"] < 60
        assert await shop.answers.groups("other") == {}

    run(test)


def test_stored_events_are_returned_in_pages() -> None:
    """By place and by name; nothing of an unknown place."""

    async def test(shop: Shop) -> None:
        page = await shop.answers.kept(shop.store, 1, "sho*", "*", 1)
        assert page is not None
        assert ([each["id"] for each in page["events"]], page["through"], page["more"]) == (["id-2"], 2, True)
        assert page["events"][0]["native_id"] == f"{shop.store}-2"
        other = await shop.answers.kept(shop.store, 0, "*", "opened", 10)
        assert other == {"events": [], "through": 3, "more": False}
        assert await shop.answers.kept("0" * 16, 0, "*", "*", 10) is None

    run(test)


def test_stored_events_are_returned_from_the_end() -> None:
    """Page by page, by name and time; each page says where the next one begins."""

    async def test(shop: Shop) -> None:
        async def latest(before: int, event: str = "*", start: float | None = None, limit: int = 2) -> object:
            page = await shop.answers.latest(shop.store, before, "sho*", event, start, None, limit)
            assert page is not None
            return [each["id"] for each in page["events"]], page["before"]

        assert await latest(2**60) == (["id-3", "id-2"], 2)
        assert await latest(2) == (["id-1"], None)
        assert await latest(2**60, "opened") == ([], 2)
        assert await latest(2**60, start=time.time() + 60, limit=10) == ([], None)
        assert await latest(1) == ([], None)
        assert await shop.answers.latest("0" * 16, 9, "*", "*", None, None, 10) is None

    run(test)


def test_the_state_of_events() -> None:
    """For each group that receives the event."""

    async def test(shop: Shop) -> None:
        which = [(f"{shop.store}-{n}", shop.store, n) for n in range(1, 5)]
        told = await shop.answers.handled(which)
        assert told == {which[0][0]: {"mail": "acked"}, which[1][0]: {"mail": "dead"}, which[2][0]: {"mail": "waiting"}}
        assert await shop.answers.lag("shop", "mail") == 1
        assert [each["id"] for each in await shop.answers.history("shop", "sold", 2.0, None, 10)] == ["id-2", "id-3"]
        [journal] = await shop.answers.journals()
        assert (journal["journal"], journal["events"], journal["head"]) == (shop.store, 3, 3)
        assert journal["lost"] == []

    run(test)


def test_dead_letters_are_retried_and_dropped() -> None:
    """By their places; those of other backends are ignored."""

    async def test(shop: Shop) -> None:
        [dead] = await shop.answers.dead("mail")
        assert (dead["native_id"], dead["error"], dead["deliveries"]) == (f"{shop.store}-2", "no stamps", 5)
        assert await shop.answers.dead("stock") == []
        assert await shop.answers.retry_dead("mail", [("0" * 16, 2), (shop.store, 2)]) == [f"{shop.store}-2"]
        assert await shop.answers.dead("") == []
        assert await shop.answers.drop_dead("mail", [(shop.store, 2)]) == []

    run(test)


def test_groups_are_removed() -> None:
    """The existing ones; a member that listens joins a new one, which gets no earlier events."""

    async def test(shop: Shop) -> None:
        assert await shop.answers.remove_group("shop", "stock") is False
        assert await shop.answers.remove_group("shop", "mail") is True
        for group in (await shop.answers.groups()).values():
            assert (group.lag, group.dead) == (0, 0)

    run(test)


def test_another_process_answers() -> None:
    """If this process is not chosen, it returns nothing and changes nothing."""

    async def test(shop: Shop) -> None:
        shop.is_ours = False
        assert (await shop.answers.groups(), await shop.answers.journals()) == ({}, [])
        assert await shop.answers.dead("") == await shop.answers.history("shop", "*", None, None, 9) == []
        assert (await shop.answers.lag("shop", "mail"), await shop.answers.remove_group("shop", "mail")) == (
            None,
            False,
        )

    run(test)


def test_an_unreachable_backend_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and the other backends are reported."""

    async def test(shop: Shop) -> None:
        shop.is_there = False
        assert await shop.answers.groups() == {}
        assert await shop.answers.lag("shop", "mail") is None
        assert [record.getMessage() for record in caplog.records] == [
            "Questions about the events of shop are answered without their event backend: it is away"
        ]

    run(test)
