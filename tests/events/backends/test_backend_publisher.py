"""Publishing to a backend: together, in order, and never after an event that it did not accept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from helpers import Door, wait_until
from lightbus import Api, BusPath, Event, EventBackendError, EventBackendUnreachable
from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.engine import event_backends, forwarding
from lightbus.events.backends import backend_publisher as module
from lightbus.events.backends.backend_publisher import BackendPublisher
from lightbus.message import EventMessage
from lightbus.ports.events import BackendContext, OutgoingEvent
from lightbus.testing import MemoryBus
from lightbus.wire import envelope


class ShopApi(Api):
    sold = Event(parameters=["number"])

    class Meta:
        name = "shop"


class Moody(MemoryEventBackend):
    """A backend in memory that is unreachable as often as the test says."""

    away = 0
    refuses = False
    batches: list[int]

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        type(self).batches = []

    async def publish(self, events: Sequence[OutgoingEvent]) -> Sequence[int | EventBackendError]:
        """Store events, unless it is unreachable."""
        type(self).batches.append(len(events))
        if self.refuses:
            return [EventBackendError("It is full.")] * len(events)
        if self.away:
            type(self).away -= 1
            return [EventBackendUnreachable("It is away.")] * len(events)
        return await super().publish(events)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[BusPath]:
    """Return a running publisher, whose backend can be made to fail."""
    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Moody)
    monkeypatch.setattr(Moody, "away", 0)
    monkeypatch.setattr(forwarding, "LOOK_EVERY", 0.2)
    with MemoryBus(journal=True) as hub:  # the outbox is on disk
        shop = hub.create({"apis": {"default": {"events": {"backend": "memory"}}}}, service_name="shop")
        shop.client.register_api(ShopApi())
        hub.start(shop)
        yield shop


def numbers(shop: BusPath) -> list[int]:
    """Return the stored events, in order."""
    found: list[EventMessage] = shop.shop.sold.history()
    return [event.kwargs["number"] for event in found]


def publisher(shop: BusPath) -> BackendPublisher:
    """Return the publisher."""
    worker = shop.client.worker
    assert worker is not None
    assert worker.parts is not None
    assert isinstance(worker.parts.outgoing, BackendPublisher)
    return worker.parts.outgoing


def hand_off(shop: BusPath, *given: int) -> Any:
    """Hand off events to it together, as another process does; return their outcomes."""
    records = [envelope.encode_record(envelope.Record(f"id-{n}", 1, time.time(), {"number": n})) for n in given]
    rows = [(record, None, time.time(), "") for record in records]
    return publisher(shop).put_together("shop", "sold", rows, [f"id-{n}" for n in given], is_own=False)


def test_events_wait_in_order_for_an_unreachable_backend(shop: BusPath, door: Door) -> None:
    """Events fired in the meantime and later wait in the outbox, and are then stored once, in order."""
    door.fire(shop.shop.sold, number=0)
    Moody.away = 3
    for number in range(1, 6):
        message = door.fire(shop.shop.sold, number=number)
        assert message.native_id == ""
        if number == 1:
            [problem] = publisher(shop).put_by
            assert "shop" in problem
    wait_until(lambda: numbers(shop) == [*range(6)], 20.0)
    wait_until(lambda: door.fire(shop.shop.sold, number=6).native_id)
    assert sorted(set(numbers(shop))) == [*range(7)]
    assert publisher(shop).counts["put_by"] >= 5


def test_a_hand_off_is_stored_in_order_or_not_at_all(shop: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an event is not accepted, none after it is: the sender sends all of them again."""
    monkeypatch.setattr(module, "MAX_BATCH", 2)
    Moody.away = 1
    with pytest.raises(EventBackendUnreachable):
        hand_off(shop, 1, 2, 3, 4, 5).result(60)
    assert numbers(shop) == []
    hand_off(shop, 1, 2, 3, 4, 5).result(60)
    assert numbers(shop) == [1, 2, 3, 4, 5]
    assert not HostOutbox(shop.client.engine.journals.path).exists()


def test_a_refused_event_is_an_error(shop: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not stored, and no other event waits for it."""
    monkeypatch.setattr(Moody, "refuses", True)
    with pytest.raises(EventBackendError, match="It is full"):
        door.fire(shop.shop.sold, number=1)
    monkeypatch.setattr(Moody, "refuses", False)
    door.fire(shop.shop.sold, number=2)
    assert numbers(shop) == [2]


def test_waiting_events_are_published_together(shop: BusPath) -> None:
    """As many as possible at a time."""
    shop.shop.sold.fire_many([{"number": number} for number in range(1200)])
    assert len(Moody.batches) <= 5
    assert max(Moody.batches) == module.MAX_BATCH
    assert publisher(shop).counts["stored"] == 1200
