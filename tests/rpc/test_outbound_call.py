"""A call to an API that is served in several versions: it goes to a version that it fits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers import Door, wait_until
from lightbus import Api, BusPath, InvalidParameters, ProtocolError, UnknownApi, UnknownProcedure
from lightbus.engine import peer_api
from lightbus.testing import MemoryBus, memory_bus
from lightbus.wire import envelope


class Old(Api):
    class Meta:
        name = "orders"

    def place(self, sku: str) -> str:
        return "old"

    def cancel(self, sku: str) -> str:
        return "old"


class New(Api):
    class Meta:
        name = "orders"
        version = 2

    def place(self, sku: str, amount: int) -> str:
        return "new"

    def track(self, sku: str) -> str:
        return "new"


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus on which two workers of each version serve an API."""
    with memory_bus() as hub:
        for api in (Old, New, Old, New):
            bus = hub.create(service_name="orders")
            bus.client.register_api(api())
            hub.start(bus)
        yield hub


@pytest.fixture
def caller(hub: MemoryBus) -> BusPath:
    """Return a bus that knows all of them."""
    bus = hub.create()
    bus.client.wait_for_apis("orders")
    wait_until(lambda: len(bus.client.engine.snapshot.serving["orders"]) == 4)
    return bus


def test_versions_side_by_side(caller: BusPath, door: Door) -> None:
    """Each call goes to a version that has its procedure and its parameters: no call fails."""
    for _ in range(10):
        assert door.call(caller.orders.place, sku="tea") == "old"
        assert door.call(caller.orders.place, sku="tea", amount=2) == "new"
        assert door.call(caller.orders.cancel, sku="tea") == "old"
        assert door.call(caller.orders.track, sku="tea") == "new"


def test_a_call_sends_every_field_of_a_request(caller: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values are written without making the message: one that is left out there would be its default for ever."""
    sent: list[list[object]] = []

    def encode_request(values: list[object], call_id: int) -> bytes:
        sent.append(values)
        return envelope.encode(envelope.Request(*values), call_id)  # type: ignore[arg-type]

    monkeypatch.setattr(envelope, "encode_request", encode_request)
    assert door.call(caller.orders.cancel, sku="tea") == "old"
    assert [len(values) for values in sent] == [len(envelope.Request._fields)]


def test_a_call_that_fits_no_version(caller: BusPath, door: Door) -> None:
    """The error is that of the first version; each version was asked once."""
    with pytest.raises(InvalidParameters, match=r"orders\.place has no parameter 'colour'.*\(says orders "):
        door.call(caller.orders.place, sku="tea", colour="red")
    with pytest.raises(UnknownProcedure, match=r"has no procedure 'plaec'\. Did you mean 'place'"):
        door.call(caller.orders.plaec, sku="tea")


def test_a_version_is_requested(caller: BusPath, door: Door) -> None:
    """`bus_options` may name a version: then no other one is asked."""
    assert door.call(caller.orders.place, sku="tea", amount=2, bus_options={"version": 2}) == "new"
    with pytest.raises(InvalidParameters, match="needs the argument 'amount'"):
        door.call(caller.orders.place, sku="tea", bus_options={"version": 2})
    with pytest.raises(UnknownApi, match="No peer serves version 7"):
        door.call(caller.orders.place, sku="tea", bus_options={"version": 7})
    with pytest.raises(InvalidParameters, match="version is 'two', and has to be of type int"):
        door.call(caller.orders.place, sku="tea", bus_options={"version": "two"})


def test_an_invalid_answer_of_an_internal_api(caller: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the peer, and is raised before the answer is read; answers of other APIs are not checked."""
    monkeypatch.setattr(peer_api, "_losses", lambda parts: ["a text"])
    monkeypatch.setattr(peer_api, "safely", lambda show, text: 7)
    one = {"peer": caller.client.engine.snapshot.serving["orders"][0].instance}
    with pytest.raises(
        ProtocolError, match=r"^orders .* sent an invalid answer to internal\.peer\.health: .*answer\.losses"
    ):
        door.call(caller.internal.peer.health, bus_options=one)
    assert door.call(caller.internal.peer.stats, bus_options=one)["concurrency"] == 100
    assert door.call(caller.orders.place, sku="tea") == "old"
