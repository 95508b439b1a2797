"""Registering APIs: offered and refused members, and their schemas."""

from __future__ import annotations

import time
from typing import Any

import pytest

import lightbus
from helpers import Door
from helpers.clients import AuthApi
from lightbus import Api, BusPath, InvalidApiRegistryEntry, UnknownApi


def test_register_api_wants_an_instance(bus: BusPath) -> None:
    """A class or another object is refused with the line to write; a second Api of a name replaces the first."""
    with pytest.raises(InvalidApiRegistryEntry, match=r"bus\.client\.register_api\(AuthApi\(\)\)"):
        bus.client.register_api(AuthApi)  # type: ignore[arg-type]
    again = AuthApi()
    bus.client.register_api(again)
    assert bus.client.api_registry.get("auth") is again
    with pytest.raises(InvalidApiRegistryEntry, match="An instance of 'str' is no Api"):
        bus.client.register_api("auth")  # type: ignore[arg-type]
    assert bus.client.api_registry.names() == ["auth"]


def test_methods_that_are_no_procedures_are_named(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """Methods that cannot be served are logged when their Api is registered, with the reason."""

    class Prices(Api):
        now = time.monotonic

        class Meta:
            name = "prices"

    bus.client.register_api(Prices())
    assert [record.getMessage() for record in caplog.records] == [
        "prices.now is no procedure: it is a builtin_function_or_method, which is not given the Api. "
        "Write a `def` that calls it, or begin its name with an underscore"
    ]


def test_functions_assigned_to_an_instance_are_logged(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """Functions assigned in `__init__` are no methods of the class, and not served: they are logged, values are not."""

    class Prices(Api):
        class Meta:
            name = "prices"

        def __init__(self) -> None:
            self.get = lambda: 1
            self.list = self._all
            self.currencies = ["EUR"]
            self._private = print

        def _all(self) -> list[str]:
            return self.currencies

    bus.client.register_api(Prices())
    assert [record.getMessage().partition(".  ")[0][:70] for record in caplog.records] == [
        "prices.get is no procedure: it was given to this instance, and what an",
        "prices.list is no procedure: it was given to this instance, and what a",
    ]


def test_registering_while_running(served: BusPath, caller: BusPath, door: Door) -> None:
    """An API registered after the start is served at once, and a caller finds it."""

    class Late(Api):
        class Meta:
            name = "late"

        def get(self) -> int:
            return 7

    assert door.call(caller.auth.check_password, username="sally", password="secret") is True
    served.client.register_api(Late())
    assert door.call(caller.late.get) == 7


def test_registered_apis_are_found_by_name(bus: BusPath) -> None:
    """Registered Apis are found by name, and listed as public and internal."""

    class Secret(Api):
        class Meta:
            name = "secret"
            internal = True

    bus.client.api_registry.add(Secret())
    registry = bus.client.api_registry
    assert [api.meta.name for api in registry.public()] == ["auth"]
    assert [api.meta.name for api in registry.internal()] == ["secret"]
    assert [api.meta.name for api in registry.all()] == registry.names() == ["auth", "secret"]
    registry.remove("secret")
    with pytest.raises(UnknownApi, match="No Api named 'secret' is registered"):
        registry.get("secret")


def test_bus_schema_holds_writes_and_reads_schemas(bus: BusPath, tmp_path: Any) -> None:
    """`bus.schema` has the schemas of registered and loaded APIs, and writes and reads them."""
    assert bus.schema.api_names == ["auth"]
    assert ("auth", "check_password") in bus.schema.rpcs
    assert bus.schema.events == [("auth", "user_registered")]
    bus.schema.save_local(tmp_path)
    other = lightbus.create(service_name="other")
    other.schema.load_local(tmp_path)
    assert other.schema.get_api_schema("auth") == bus.schema.get_api_schema("auth")
