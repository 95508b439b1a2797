"""Paths: attribute access becomes names, and the forms of calling, firing and listening become what the client does."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import inspect
import pkgutil
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until
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
from lightbus.path import MOST_KEPT
from lightbus.service.hooks import HOOKS
from lightbus.service.reachable import OF_MEMBERS
from lightbus.testing import bus_mocker, memory_bus


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


def test_looking_up_twice_gives_the_same_path(bus: BusPath) -> None:
    """A path is made once, and collected together with its bus."""
    assert bus.shop.orders is bus.shop.orders
    other = lightbus.create(service_name="other")
    gone = weakref.ref(other.shop.orders)
    del other
    gc.collect()
    assert gone() is None


def test_paths_that_are_kept_are_limited(bus: BusPath) -> None:
    """A program that takes names from others does not grow with them; all of them lead somewhere."""
    for path in (bus, bus.auth):
        names = [f"n{number}" for number in range(2 * MOST_KEPT)]
        assert [str(getattr(path, name)).rpartition(".")[2] for name in names] == names
        assert len(vars(path)) == MOST_KEPT


def test_names_with_underscores(bus: BusPath) -> None:
    """Names that begin with an underscore are Python's own: copying, pickling and the like do not wander off."""
    with pytest.raises(AttributeError, match="do not begin with an underscore: '_private'"):
        _ = bus.shop._private
    assert not hasattr(bus, "__wrapped__")
    assert not hasattr(bus.shop, "_repr_html_")


def test_client_and_schema_are_the_roots(bus: BusPath) -> None:
    """`bus.client` and `bus.schema` are client and schemas; an API may have procedures of these names."""
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


def test_path_without_an_api(bus: BusPath) -> None:
    """The root, or a single name, cannot be called."""
    for path, name in ((bus, "bus"), (bus.shop, r"bus\.shop"), (bus.call, r"bus\.call")):
        with pytest.raises(InvalidName, match=rf"^{name} cannot be called\. Name the API and"):
            path()


@pytest.mark.parametrize("form", ["listen", "call", "fire"])
def test_an_api_is_no_event(bus: BusPath, form: str) -> None:
    """A path without the name of an event or a procedure is refused, with an example."""
    with pytest.raises(InvalidName, match=r"'shop' is no event and no procedure\. Name the API and one of its members"):
        getattr(bus.shop, form)(print)


def test_names_that_paths_have_themselves(door: Door) -> None:
    """A procedure or an event may be named like a method of the paths, and so may an API."""

    def method(self: Any, value: int) -> int:
        return value

    members = dict.fromkeys(OF_MEMBERS - {"listen"}, method)
    meta = type("Meta", (), {"name": "stream"})
    api = type("StreamApi", (Api,), {"Meta": meta, **members, "listen": Event(["value"])})()
    history = type("HistoryApi", (Api,), {"Meta": type("Meta", (), {"name": "history"}), "call": method})()
    heard: list[Any] = []
    with memory_bus() as hub:
        bus = hub.create(service_name="stream")
        for each in (api, history):
            bus.client.register_api(each)
        bus.stream.listen.listen(lambda event: heard.append(event.kwargs), listener_name="it")
        hub.start(bus)
        for name in members:
            assert door.call(getattr(bus.stream, name), value=3) == 3
        assert door.call(bus.history.call, value=4) == 4
        assert door.fire(bus.stream.listen, value=5).canonical_name == "stream.listen"
        wait_until(lambda: heard == [{"value": 5}])
        assert bus.stream.history.parameter_schema["properties"]["value"] == {"type": "integer"}
        assert bus.stream.listen.history()[0].kwargs == {"value": 5}
        assert bus.stream.call.api_name == "stream"


def test_subclasses_have_the_same_names() -> None:
    """Children of a user's path class have that class, and so have copies."""

    class Path(BusPath):
        pass

    bus = lightbus.create(service_name="shop", node_class=Path)
    assert type(bus.stream.fire) is type(bus.history.fire) is type(copy.copy(bus.stream).fire) is Path
    assert inspect.ismethod(bus.stream.seen.fire)
    assert inspect.ismethod(copy.copy(bus.stream.seen).fire)
    bus.client.close()


def every_name() -> list[str]:
    """Return the names of all parameters of all functions of the package, and a few that users may think of."""
    names = {"class", "from", "lambda", "id", "type", "event", "error", "größe", "__class__", "model_config", "Meta"}
    for module in pkgutil.walk_packages(lightbus.__path__, "lightbus."):
        if any(part in module.name for part in ("__main__", "demo_services", "contrib.django")):
            continue  # Django's needs the settings of a project
        for value in vars(importlib.import_module(module.name)).values():
            for function in (value, *(vars(value).values() if inspect.isclass(value) else ())):
                if inspect.isfunction(function):
                    names.update(inspect.signature(function).parameters)
    return sorted(names - {"bus_options"})


def test_a_parameter_may_have_any_name(door: Door) -> None:
    """No name of an argument is in the way of one that the library uses inside: in calls, hooks, events, listeners."""
    names = every_name()
    assert len(names) > 300
    values = {name: f"{name}!" for name in names}
    seen: list[tuple[str, Any]] = []
    members = {
        "echo": staticmethod(lambda **given: given),
        "echo_async": staticmethod(_echo_async),
        "seen": Event([Parameter(name, str) for name in names]),
    }
    api = type("NamesApi", (Api,), {"Meta": type("Meta", (), {"name": "names"}), **members})()
    with memory_bus() as hub:
        bus = hub.create(service_name="names")
        bus.client.register_api(api)
        for hook in HOOKS:
            getattr(bus.client, hook)(lambda **told: seen.append(("hook", None)))
        for listener in (_first_and_all(seen), _first_and_all_async(seen)):
            bus.names.seen.listen(listener, listener_name=listener.__name__)
        hub.start(bus)
        for one in (bus, hub.create()):
            assert door.call(one.names.echo, **values) == values
            assert door.call(one.names.echo_async, **values) == values
            door.fire(one.names.seen, **values)
        wait_until(lambda: len([kind for kind, _ in seen if kind != "hook"]) == 4)
        assert [given for kind, given in seen if kind != "hook"] == [values] * 4
        assert bus.names.seen.history()[0].kwargs == values
    with bus_mocker(bus) as mock:
        mock.mock_rpc_call("names.echo", result=lambda **given: given)
        mock.mock_event_firing("names.seen")
        assert door.call(bus.names.echo, **values) == values
        assert door.fire(bus.names.seen, **values).kwargs == values
    bus.client.close()


async def _echo_async(**given: Any) -> Any:
    return given


def _first_and_all(seen: list[tuple[str, Any]]) -> Any:
    def listener(_first_of_all: lightbus.EventMessage, **given: Any) -> None:
        seen.append(("def", given))

    return listener


def _first_and_all_async(seen: list[tuple[str, Any]]) -> Any:
    async def listener_async(_first_of_all: lightbus.EventMessage, **given: Any) -> None:
        seen.append(("async def", given))

    return listener_async


@pytest.mark.parametrize("name", ["function", "message", "kwargs", "timeout", "name", "event_message", "self", "args"])
def test_typed_parameters_of_inside_names(door: Door, name: str) -> None:
    """A method's own parameter may have such a name, with an annotation and checked as any other."""
    first = "this" if name == "self" else "self"
    scope: dict[str, Any] = {}
    exec(f"def echo({first}, {name}: int) -> int:\n    return {name}", scope)
    api = type("NamesApi", (Api,), {"Meta": type("Meta", (), {"name": "names"}), "echo": scope["echo"]})()
    with memory_bus() as hub:
        bus = hub.create(service_name="names")
        bus.client.register_api(api)
        hub.start(bus)
        assert door.call(hub.create().names.echo, **{name: 3}) == 3
        with pytest.raises(ValidationError, match=f"{name} is 'x'"):
            door.call(bus.names.echo, **{name: "x"})


def test_listen_hands_on(bus: BusPath) -> None:
    """`listen` takes a name, options and what to do about errors; none of them is lost on the way."""

    def listener(message: lightbus.EventMessage) -> None: ...

    bus.shop.orders.sold.listen(listener)
    bus.shop.orders.sold.listen(listener, listener_name="named", on_error=OnError.ACKNOWLEDGE_AND_LOG)
    getattr(bus.shop.orders, "*").listen(listener, listener_name="all", on_error=OnError.RETRY, bus_options={})
    first, named, all_ = bus.client.listeners
    assert (first.events, first.on_error) == (("sold",), OnError.STOP_LISTENER)
    assert (named.name, named.on_error) == ("named", OnError.ACKNOWLEDGE_AND_LOG)
    assert (all_.api, all_.events, all_.on_error) == ("shop.orders", ("*",), OnError.RETRY)


def test_calling_an_event_fires_it(bus: BusPath) -> None:
    """The document's own form: `bus.api.event(...)` fires, and returns the message."""
    bus.client.start_in_background()
    message = bus.shop.orders.sold(what="tea")
    assert isinstance(message, lightbus.EventMessage)
    assert message.canonical_name == "shop.orders.sold"
    assert bus.shop.orders.count(what="tea") == 7


def test_path_checks_values_against_its_schemas(bus: BusPath) -> None:
    """A path has the schemas of its member, and checks values against them."""
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


def test_async_methods_are_coroutine_functions(bus: BusPath) -> None:
    """Code that inspects such a method, as a scheduler does, sees that it must be awaited."""
    assert inspect.iscoroutinefunction(bus.auth.check_password.call_async)
    assert inspect.iscoroutinefunction(bus.auth.seen.fire_async)
