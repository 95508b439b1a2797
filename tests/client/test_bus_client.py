"""The client as a whole."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

import lightbus
from helpers import Door
from helpers.clients import AuthApi
from lightbus import BusPath, EventMessage, Feature, InvalidConfiguration
from lightbus.client.hook_runner import HookPoint
from lightbus.service.hooks import HOOKS
from lightbus.testing import MemoryBus


def test_unknown_feature_is_refused(bus: BusPath) -> None:
    """Features are named as in settings, also in one string with commas; an unknown one is refused with the list."""
    bus.client.set_features("rpcs, events")
    assert bus.client.features == (Feature.RPCS, Feature.EVENTS)
    with pytest.raises(InvalidConfiguration, match=r"no feature 'evnts'\. Did you mean 'events'"):
        bus.client.set_features(["evnts"])


def test_client_closes_itself_at_the_end_of_a_with_block(bus: BusPath) -> None:
    """A client closes itself at the end of a `with` block."""
    with bus.client as client:
        assert client is bus.client
    with pytest.raises(lightbus.BusAlreadyClosed):
        bus.auth.check_password(username="sally", password="secret")


def test_names_of_the_process(bus: BusPath) -> None:
    """Service and process names are those of the settings, with their placeholders expanded once."""
    assert bus.client.service_name == "auth-service"
    other = lightbus.create(service_name="shop-{random4}", process_name="p{pid}")
    assert len(other.client.service_name) == len("shop-") + 4
    assert other.client.service_name == other.client.service_name
    other.client.close()


def test_every_hook_can_be_declared(bus: BusPath) -> None:
    """There is a decorator for each hook there is, and for no other; each adds to its own."""
    points = {name for name, value in vars(lightbus.BusClient).items() if isinstance(value, HookPoint)}
    assert points == {*HOOKS}
    for name in HOOKS:
        getattr(bus.client, name)(lambda: None)
        assert len(bus.client.hooks.functions(name)) == 1
        assert getattr(lightbus.BusClient, name).name == name


def test_methods_of_a_subclass_are_used(hub: MemoryBus, door: Door) -> None:
    """Overridden methods of a client class are used for each path, sync and async."""
    told: list[str] = []

    class Noting(lightbus.BusClient):
        async def call_rpc_remote(self, api_name: str, name: str, *args: Any, **named: Any) -> Any:
            told.append(f"call {name}")
            return await super().call_rpc_remote(api_name, name, *args, **named)

        def call_rpc_blocking(self, api_name: str, name: str, *args: Any, **named: Any) -> Any:
            told.append(f"call {name}")
            return super().call_rpc_blocking(api_name, name, *args, **named)

        async def fire_event(self, api_name: str, name: str, *args: Any, **named: Any) -> EventMessage:
            told.append(f"fire {name}")
            return await super().fire_event(api_name, name, *args, **named)

        def fire_event_blocking(self, api_name: str, name: str, *args: Any, **named: Any) -> EventMessage:
            told.append(f"fire {name}")
            return super().fire_event_blocking(api_name, name, *args, **named)

    bus = hub.create(service_name="noting", client_class=Noting)
    bus.client.register_api(AuthApi())
    bus.client.start_in_background()
    assert door.call(bus.auth.check_password, username="sally", password="secret") is True
    door.fire(bus.auth.user_registered, username="sally")
    assert told == ["call check_password", "fire user_registered"]


OF_PROGRAMS = {
    *("register_api", "listen_for_event", "listen_for_events", "every", "schedule", "add_background_task"),
    *("call_rpc_remote", "fire_event", "wait_for_apis", "wait_for_apis_async", "set_features", "consume_rpcs"),
    *("run_forever", "start_worker", "stop_worker", "start_in_background", "request_shutdown", "close", "close_async"),
}
"""What programs written for Lightbus call on a client: as many as there are, whatever a class should have."""


def test_client_only_delegates() -> None:
    """Apart from its public methods it has few, and each of them only calls a part."""
    [made] = [node for node in ast.parse(inspect.getsource(lightbus.BusClient)).body if isinstance(node, ast.ClassDef)]
    methods = [node for node in made.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = {method.name for method in methods}
    assert names >= OF_PROGRAMS
    assert len(names - OF_PROGRAMS) <= 25
    longest = {
        method.name: len([node for node in ast.walk(method) if isinstance(node, ast.stmt)]) - 2
        for method in methods
        if method.name != "__init__"
    }
    assert {name: count for name, count in longest.items() if count > 2} == {}
