"""Tests of lightbus.gateway.event_reader: events that are read once, for all that follow them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.raw_events import raw_events
from helpers.waiting import LEAST
from lightbus import Api, BusPath, Event, NotReachable, OnError, Parameter
from lightbus.cli.support.connection import Connection
from lightbus.gateway import event_reader as module
from lightbus.gateway.event_reader import EventReader, Item
from lightbus.testing import MemoryBus, memory_bus


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the journals often: there are no live events in these tests."""
    monkeypatch.setattr(module, "READ_EVERY", 0.02)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.02)


def products(items: Any) -> list[str]:
    return [json.loads(item.data)["kwargs"]["product"] for item in items]


async def fire(shop: BusPath, *names: str) -> None:
    for product in names:
        await shop.shop.ordered.fire_async(product=product)


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory whose publishers keep journals."""
    with memory_bus(journal=True) as hub:
        yield hub


def test_events_from_now_on(shop: BusPath, on_bus: Any) -> None:
    """Each new event once, in order, with its place; no earlier ones."""
    shop.shop.ordered.fire(product="before")

    async def main(bus: Connection) -> list[Item]:
        reader = EventReader(bus, "shop", "ordered")
        async with reader.reading():
            assert len(reader.places) == 1
            await fire(shop, "lamp", "chair", "table")
            await wait_until_async(lambda: reader.number == 3)
            await wait_until_async(lambda: max(reader.places.values()) == (reader.since(2) or [])[0].sequence)
        return reader.since(0) or []

    items = on_bus(main)
    assert products(items) == ["lamp", "chair", "table"]
    assert [item.sequence for item in items] == sorted(item.sequence for item in items)
    assert {item.is_old for item in items} == {False}


def test_earlier_events_can_be_read(shop: BusPath, on_bus: Any) -> None:
    """From a place on, or all of them."""
    for product in ("lamp", "chair", "table"):
        shop.shop.ordered.fire(product=product)
    shop.shop.other.happened.fire(what="else")

    async def main(bus: Connection) -> Any:
        reader = EventReader(bus, "shop", "ordered")
        whole = [item async for item in reader.stored_after({})]
        rest = [item async for item in reader.stored_after({whole[0].journal: whole[0].sequence})]
        return whole, rest

    whole, rest = on_bus(main)
    assert products(whole) == ["lamp", "chair", "table"]
    assert products(rest) == ["chair", "table"]
    assert all(item.is_old for item in whole)


def test_live_event_triggers_reading(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored events are read at once, best-effort events are taken from the live event."""
    monkeypatch.setattr(module, "READ_EVERY", 600.0)

    async def main(bus: Connection) -> list[Item]:
        reader = EventReader(bus, "shop", "*")
        async with reader.reading():
            message = await shop.shop.ordered.fire_async(product="lamp")
            reader.add(raw_events("shop.seen", {"product": "chair"}))
            reader.add(raw_events("other.seen", {"product": "none"}))
            journal, _, sequence = message.native_id.rpartition("-")
            reader.add(raw_events("shop.ordered", {"product": "lamp"}, journal=journal, first=int(sequence)))
            await wait_until_async(lambda: reader.number == 2)
        return reader.since(0) or []

    items = on_bus(main)
    assert sorted(products(items)) == ["chair", "lamp"]
    assert [item.journal for item in items if item.sequence == 0] == [""]


def test_reading_ends_during_an_event(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stops as it is woken waits for nothing more."""
    monkeypatch.setattr(module, "READ_EVERY", 600.0)

    async def main(bus: Connection) -> None:
        reader = EventReader(bus, "shop", "*")
        async with asyncio.timeout(LEAST), reader.reading():
            await wait_until_async(lambda: reader._wake._waiters)  # type: ignore[attr-defined]
            reader._wake.set()

    on_bus(main)


def test_only_the_latest_are_held(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number and the bytes of events in memory are bounded; `since` returns None for older ones."""
    monkeypatch.setattr(module, "MAX_ITEMS", 3)

    async def main(bus: Connection) -> Any:
        reader = EventReader(bus, "shop", "seen")
        for number in range(5):
            reader.add(raw_events("shop.seen", {"product": str(number)}))
        held = reader.since(2), reader.since(1), reader.since(5)
        reader.add(raw_events("shop.seen", {"product": "x" * module.MAX_BYTES}))
        return *held, reader.since(5), reader.since(4)

    latest, more, none, large, both = on_bus(main)
    assert (products(latest), more, none) == (["2", "3", "4"], None, [])
    assert len(large) == 1
    assert both is None


def test_redelivery_to_a_group_is_skipped(hub: MemoryBus, shop: BusPath, on_bus: Any) -> None:
    """It is not sent to streams, neither live nor when it is read later."""

    def refuse(message: Any, **_: Any) -> None:
        raise ValueError("no")

    listening = hub.create(service_name="bills")
    listening.shop.ordered.listen(refuse, listener_name="bill", on_error=OnError.RETRY, max_deliveries=1)
    hub.start(listening)
    fired = shop.shop.ordered.fire(product="lamp")

    async def main(bus: Connection) -> Any:
        reader = EventReader(bus, "shop", "ordered")
        async with reader.reading():
            peer = next(peer for peer in bus.known() if peer.announcement.service == "shop")
            question = {"group": "bills-bill", "native_id": fired.native_id}
            options = {"peer": peer.instance}

            async def is_retried() -> bool:
                return bool(await bus.client.call_rpc_remote("internal.events", "retry_dead", question, options))

            while not await is_retried():  # it is a dead letter as soon as it was refused
                await asyncio.sleep(0.01)
            await fire(shop, "chair")
            await wait_until_async(lambda: reader.number > 0)
            return reader.since(0), [item async for item in reader.stored_after({})]

    live, past = on_bus(main)
    assert products(live) == ["chair"]
    assert products(past) == ["lamp", "chair"]


class LaterBus:
    """Starts another publisher of the shop's API, which has fired before."""

    def __init__(self, hub: MemoryBus, shop: BusPath) -> None:
        self.bus = hub.create(service_name="branch")
        self.bus.client.register_api(shop.client.api_registry.get("shop"))


def test_a_new_journal(hub: MemoryBus, shop: BusPath, on_bus: Any) -> None:
    """All of it is read, and older events are marked; a cursor with the journal resumes there."""
    branch = LaterBus(hub, shop).bus

    async def main(bus: Connection) -> list[Item]:
        reader = EventReader(bus, "shop", "ordered")
        async with reader.reading():
            await branch.client.start_worker()
            await branch.shop.ordered.fire_async(product="old")
            await wait_until_async(lambda: reader.number == 1)
            await branch.shop.ordered.fire_async(product="new")
            await wait_until_async(lambda: reader.number == 2)
            await wait_until_async(lambda: len(reader.places) == 2)
        await branch.client.stop_worker()
        return reader.since(0) or []

    items = on_bus(main)
    assert products(items) == ["old", "new"]
    assert not items[1].is_old


def told_by(monkeypatch: pytest.MonkeyPatch, tell: Callable[..., Any]) -> None:
    monkeypatch.setattr(module, "ask_each", tell)


def test_publishers_that_do_not_answer(
    shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A new reader fails; a running one continues once they answer."""
    ask, is_silent = module.ask_each, True

    async def tell(*args: Any, **given: Any) -> Any:
        return [] if is_silent else await ask(*args, **given)

    told_by(monkeypatch, tell)

    async def main(bus: Connection) -> None:
        nonlocal is_silent
        reader = EventReader(bus, "shop", "ordered")
        with pytest.raises(NotReachable, match="None of the publishers of 'shop'"):
            async with reader.reading():
                pass
        is_silent = False
        async with reader.reading():
            is_silent = True
            await wait_until_async(lambda: "cannot be read" in caplog.text)
            await fire(shop, "lamp")
            is_silent = False
            await wait_until_async(lambda: reader.number == 1)

    on_bus(main)


def test_a_publisher_whose_pages_never_end(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of the others are read nevertheless, earlier ones and new ones."""
    ask_each, ask = module.ask_each, module.Journals._ask

    async def tell(*given: Any, **more: Any) -> Any:
        answers = await ask_each(*given, **more)
        return [(answers[0][0], [{"journal": "endless", "events": 1, "head": 1}]), *answers]

    async def endless(self: Any, reader: Any, procedure: str, question: dict[str, Any]) -> Any:
        if reader.journal != "endless":
            return await ask(self, reader, procedure, question)
        await asyncio.sleep(0)
        return {"events": [], "more": True, "through": question["after"] + 1}

    told_by(monkeypatch, tell)
    monkeypatch.setattr(module.Journals, "_ask", endless)
    shop.shop.ordered.fire(product="lamp")

    async def main(bus: Connection) -> list[Item]:
        reader = EventReader(bus, "shop", "ordered")
        async with asyncio.timeout(LEAST), reader.reading():
            await fire(shop, "chair")
            await wait_until_async(lambda: reader.number == 1)
            earlier = reader.stored_after({})
            return [await anext(earlier), await anext(earlier), *(reader.since(0) or [])]

    assert products(on_bus(main)) == ["lamp", "chair", "chair"]


def test_malformed_event_is_left_out(
    shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other events of a faulty publisher are read. An event of another name may not be sent to who asked."""
    events = module.Journals.events

    async def damaged(self: Any, *given: Any) -> Any:
        async for event in events(self, *given):
            yield {**event, "native_id": "nonsense"}
            yield {"native_id": event["native_id"]}
            yield {**event, "event": "secret"}
            yield {**event, "api": "shop.other"}
            yield event

    monkeypatch.setattr(module.Journals, "events", damaged)
    shop.shop.ordered.fire(product="lamp")

    async def main(bus: Connection) -> list[Item]:
        return [item async for item in EventReader(bus, "shop", "ordered").stored_after({})]

    assert products(on_bus(main)) == ["lamp"]
    assert caplog.text.count("An event of shop is left out") == 2


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


class DeepApi(Api):
    stored = Event([Parameter("value", Any)])
    seen = Event([Parameter("value", Any)], delivery="best_effort")

    class Meta:
        name = "deep"


@pytest.mark.parametrize("levels", [600, 1000])
def test_deeply_nested_event_is_left_out(
    hub: MemoryBus, on_bus: Any, caplog: pytest.LogCaptureFixture, levels: int
) -> None:
    """JSON has no form for the deepest that can be fired; the events around it are sent, stored ones and others."""
    deep = hub.create(service_name="deep")
    deep.client.register_api(DeepApi())
    hub.start(deep)
    for value in ("before", nested(levels), "behind"):
        deep.deep.stored.fire(value=value)

    async def main(bus: Connection) -> list[list[str]]:
        reader, live = EventReader(bus, "deep", "stored"), EventReader(bus, "deep", "seen")
        live.add(raw_events("deep.seen", *({"value": value} for value in ("before", nested(levels), "behind"))))
        assert live.unkept == live.number
        stored = [item async for item in reader.stored_after({})]
        return [[json.loads(item.data)["kwargs"]["value"] for item in items] for items in (stored, live.since(0) or [])]

    kept = ["before", "behind"] if levels > 900 else ["before", nested(levels), "behind"]
    assert on_bus(main) == [kept, kept]
    assert caplog.text.count("An event of deep is left out") == (2 if levels > 900 else 0)
