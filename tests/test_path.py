"""Paths: attribute access becomes names, and the forms of calling, firing and listening become what the client does."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import lightbus
from lightbus import (
    Api,
    BusPath,
    Event,
    InvalidEventArguments,
    InvalidName,
    InvalidParameters,
    OnError,
    Parameter,
    SchemaNotFound,
    ValidationError,
)


class ShopApi(Api):
    sold = Event([Parameter("what", str)])

    class Meta:
        name = "shop.orders"

    def count(self, what: str, since: int = 0) -> int:
        return 7

    def schema(self) -> str:
        return "mine"

    def client(self) -> str:
        return "mine, too"


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API."""
    bus = lightbus.create(service_name="shop")
    bus.client.register_api(ShopApi())
    yield bus
    bus.client.close()


def test_names(bus: BusPath) -> None:
    """The last part is the procedure or event, what is before it is the API."""
    path = bus.shop.orders.count
    assert path.api_name == "shop.orders"
    assert path.fully_qualified_name == str(path) == "shop.orders.count"
    assert repr(path) == "<BusPath shop.orders.count>"
    assert repr(bus) == "<BusPath root>"
    assert (bus.api_name, bus.fully_qualified_name) == ("", "")


def test_looking_up_twice_gives_the_same_path(bus: BusPath) -> None:
    """A path is made once, and goes when nobody needs the bus any more."""
    assert bus.shop.orders is bus.shop.orders
    other = lightbus.create(service_name="other")
    gone = weakref.ref(other.shop.orders)
    del other
    gc.collect()
    assert gone() is None


def test_names_with_underscores(bus: BusPath) -> None:
    """Names that begin with an underscore are Python's own: copying, pickling and the like do not wander off."""
    with pytest.raises(AttributeError, match="do not begin with an underscore: '_private'"):
        _ = bus.shop._private
    assert not hasattr(bus, "__wrapped__")
    assert not hasattr(bus.shop, "_repr_html_")
    assert copy.copy(bus.shop).api_name == bus.shop.api_name
    with pytest.raises(TypeError):
        pickle.dumps(bus)


def test_client_and_schema_are_the_roots(bus: BusPath) -> None:
    """`bus.client` and `bus.schema` are the client and the schemas; an API may have procedures of these names."""
    bus.client.start_in_background()
    assert isinstance(bus.client, lightbus.BusClient)
    assert bus.schema is bus.client.schema
    path: Any = bus.shop.orders
    assert path.schema() == "mine"
    assert path.client() == "mine, too"


@pytest.mark.parametrize("form", ["__call__", "call", "call_async"])
def test_positional_arguments_of_a_call(bus: BusPath, form: str) -> None:
    """A call takes arguments by name only."""
    with pytest.raises(InvalidParameters, match=r"given 1 argument\(s\) by position.*bus\.shop\.orders\.count\(name="):
        _finish(getattr(bus.shop.orders.count, form)("tea"))


@pytest.mark.parametrize("form", ["fire", "fire_async"])
def test_positional_arguments_of_an_event(bus: BusPath, form: str) -> None:
    """So does an event."""
    with pytest.raises(InvalidEventArguments, match=r"given 2 argument\(s\) by position"):
        _finish(getattr(bus.shop.orders.sold, form)("tea", 1))


@pytest.mark.parametrize("form", ["__call__", "call", "call_async", "fire", "fire_async"])
def test_path_without_an_api(bus: BusPath, form: str) -> None:
    """The root, or a single name, can be neither called nor fired."""
    for path, name in ((bus, "bus"), (bus.shop, r"bus\.shop")):
        with pytest.raises(InvalidName, match=rf"^{name} cannot be (called|fired)\. Name the API and"):
            _finish(getattr(path, form)())


def test_listening_without_an_api(bus: BusPath) -> None:
    """A single name cannot be listened to."""
    with pytest.raises(InvalidName, match=r"'shop' is no event\. Name the API and the event"):
        bus.shop.listen(print)


def test_listen_hands_on(bus: BusPath) -> None:
    """`listen` takes a name, options and what to do about errors; none of them is lost on the way."""

    def listener(message: lightbus.EventMessage) -> None: ...

    bus.shop.orders.sold.listen(listener)
    bus.shop.orders.sold.listen(listener, listener_name="named", on_error=OnError.ACKNOWLEDGE_AND_LOG)
    getattr(bus.shop.orders, "*").listen(listener, listener_name="all", on_error=OnError.RETRY, bus_options={})
    first, named, all_ = bus.client.listeners
    assert (first.events, first.on_error) == (("sold",), OnError.SHUTDOWN)
    assert (named.name, named.on_error) == ("named", OnError.ACKNOWLEDGE_AND_LOG)
    assert (all_.api, all_.events, all_.on_error) == ("shop.orders", ("*",), OnError.RETRY)


def test_calling_an_event_fires_it(bus: BusPath) -> None:
    """The document's own form: `bus.api.event(...)` fires, and returns the message."""
    bus.client.start_in_background()
    message = bus.shop.orders.sold(what="tea")
    assert isinstance(message, lightbus.EventMessage)
    assert message.canonical_name == "shop.orders.sold"
    assert bus.shop.orders.count(what="tea") == 7


def test_schemas(bus: BusPath) -> None:
    """A path knows the schemas of what it leads to, and checks values against them."""
    assert bus.shop.orders.count.parameter_schema["required"] == ["what"]
    assert bus.shop.orders.sold.parameter_schema["properties"]["what"]["type"] == "string"
    response = bus.shop.orders.count.response_schema
    assert response is not None
    assert response["type"] == "integer"
    bus.shop.orders.count.validate_parameters({"what": "tea"})
    with pytest.raises(ValidationError, match="what is 1"):
        bus.shop.orders.count.validate_parameters({"what": 1})
    bus.shop.orders.count.validate_response(7)
    with pytest.raises(ValidationError, match="the result is 'seven'"):
        bus.shop.orders.count.validate_response("seven")
    with pytest.raises(SchemaNotFound, match="Did you mean 'count'"):
        _ = bus.shop.orders.cuont.parameter_schema


def _finish(result: Any) -> None:
    if asyncio.iscoroutine(result):
        asyncio.run(result)


def test_async_doors_are_coroutine_functions(bus: BusPath) -> None:
    """Whoever is given one, a schedule say, sees that it is to be awaited."""
    assert inspect.iscoroutinefunction(bus.auth.check_password.call_async)
    assert inspect.iscoroutinefunction(bus.auth.seen.fire_async)
