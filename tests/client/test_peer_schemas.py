"""The schemas of other peers: fetched once, and used to validate calls and events."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from helpers import Door, wait_until
from lightbus import Api, BusPath, Event, InvalidEventArguments, Parameter, UnknownApi, ValidationError
from lightbus.service.foreign import ForeignSignature
from lightbus.testing import MemoryBus

STRICT: dict[str, Any] = {"apis": {"default": {"strict_validation": True}}}

EVENT, WRONG = {"sku": "tea", "day": "2026-01-31"}, {"sku": "tea", "day": "yesterday"}


class Orders(Api):
    placed = Event([Parameter("sku", str), Parameter("day", date)])

    class Meta:
        name = "orders"

    def place(self, sku: str, amount: int = 1) -> str:
        return sku * amount


class Later(Api):
    class Meta:
        name = "orders"
        version = 2

    def place(self, sku: int) -> str:
        return str(sku)


@pytest.fixture
def worker(hub: MemoryBus) -> BusPath:
    """Return a bus with a worker."""
    bus = hub.create(service_name="orders")
    bus.client.register_api(Orders())
    hub.start(bus)
    return bus


def test_strict_validation_asks_the_peer_first(hub: MemoryBus, worker: BusPath, door: Door) -> None:
    """Arguments that violate the peer's schema are not sent, and the error names the peer."""
    bus = hub.create(STRICT)
    with pytest.raises(ValidationError, match=r"orders\.place: amount is 'x'.*\(says the schema of orders "):
        door.call(bus.orders.place, sku="tea", amount="x")
    with pytest.raises(ValidationError, match=r"no parameter 'amuont'\. Did you mean 'amount'"):
        door.call(bus.orders.place, sku="tea", amuont=1)
    with pytest.raises(ValidationError, match="says the schema of orders"):
        door.fire(bus.orders.placed, sku="tea", day="yesterday")
    for events in ([EVENT, WRONG], iter([EVENT, WRONG])):
        with pytest.raises(ValidationError, match="says the schema of orders"):
            door.fire_many(hub.create(STRICT).orders.placed, events)
    assert door.call(bus.orders.place, sku="tea") == "tea"
    door.fire(bus.orders.placed, sku="tea", day=date(2026, 1, 2))
    with pytest.raises(UnknownApi):
        door.call(bus.nothing.there)


def test_a_refusal_is_learned_from(hub: MemoryBus, worker: BusPath, door: Door) -> None:
    """Without it the first wrong call goes out, and is refused there; the next one does not leave."""
    bus = hub.create()
    for says in ("(says orders ", "(says the schema of orders "):
        with pytest.raises(ValidationError) as caught:
            door.call(bus.orders.place, sku=5)
        assert says in str(caught.value)
        assert f"{caught.value.peer})" in str(caught.value)
        assert caught.value.peer.startswith("orders ")
    assert door.call(bus.orders.place, sku="tea", amount=2) == "teatea"


def test_a_refused_event_is_learned_from(hub: MemoryBus, worker: BusPath, door: Door) -> None:
    """So it is with an event that a publisher refuses."""
    bus = hub.create()
    for says in ("(says orders ", "(says the schema of orders "):
        with pytest.raises(InvalidEventArguments) as caught:
            door.fire(bus.orders.placed, **WRONG)
        assert says in str(caught.value)
    bus = hub.create()
    for says in ("(says orders ", "(says the schema of orders "):
        with pytest.raises(InvalidEventArguments) as caught:
            door.fire_many(bus.orders.placed, [EVENT, WRONG])
        assert says in str(caught.value)


def test_of_several_versions_one_has_to_fit(hub: MemoryBus, worker: BusPath, door: Door) -> None:
    """While two versions are served, what fits one of them goes out, and what fits none does not."""
    other = hub.create(service_name="orders")
    other.client.register_api(Later())
    hub.start(other)
    bus = hub.create(STRICT)
    bus.client.wait_for_apis("orders")
    wait_until(lambda: len(bus.client.engine.snapshot.serving["orders"]) == 2)
    for _ in range(5):
        assert door.call(bus.orders.place, sku=7) == "7"
        assert door.call(bus.orders.place, sku="tea") == "tea"
    with pytest.raises(ValidationError, match="says the schema of orders"):
        door.call(bus.orders.place, sku=[1])


@pytest.mark.parametrize(
    ("properties", "kwargs", "passes"),
    [
        ({"a": {"type": "string"}}, {"a": "x"}, True),
        ({"a": {"type": "string"}}, {"a": 1}, False),
        ({"a": {"type": "string", "format": "date"}}, {"a": "x"}, False),
        ({"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, {"a": None}, True),
        ({"a": {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}}, {"a": 1}, False),
        ({"a": {"type": "number", "title": "A"}}, {"a": 1.5}, True),
        ({"a": {"type": "integer"}}, {"a": True}, False),
        ({"a": {}}, {"a": object()}, True),
        ({"a": {}}, {}, False),
        ({"a": {}}, {"a": 1, "b": 2}, False),
        ({"a": True}, {"a": 1}, False),
    ],
)
def test_most_arguments_pass_at_first_sight(properties: Any, kwargs: Any, passes: bool) -> None:
    """Values of plain types pass without a validator; other values need one."""
    schema: Any = {"type": "object", "properties": properties, "required": ["a"], "additionalProperties": False}
    assert ForeignSignature("a.f", {"parameters": schema}).passes(kwargs) is passes
