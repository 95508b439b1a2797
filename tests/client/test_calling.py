"""Calling: the checks before a call is sent, and the handling of its result."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from helpers import Door
from lightbus import Api, BusPath, EventNotFound, InvalidParameters, UnknownApi, UnknownProcedure


def test_caller_checks_known_schemas(bus: BusPath, door: Door) -> None:
    """If the API is registered, or its schema loaded, invalid arguments are refused before anything is sent."""
    with pytest.raises(InvalidParameters, match=r"needs the argument 'password'") as caught:
        door.call(bus.auth.check_password, username="sally")
    assert "(says " not in str(caught.value)
    with pytest.raises(UnknownProcedure, match="has no procedure 'check_pasword'"):
        door.call(bus.auth.check_pasword, username="sally")
    with pytest.raises(EventNotFound, match="Did you mean 'user_registered'"):
        door.fire(bus.auth.user_registred, username="sally")


def test_arguments_that_are_no_dict(bus: BusPath) -> None:
    """They are refused before anything leaves; any mapping will do."""
    with pytest.raises(InvalidParameters, match=r"^The arguments of auth\.check_password are \[1\]"):
        bus.client.call_rpc_blocking("auth", "check_password", [1])  # type: ignore[arg-type]
    with pytest.raises(InvalidParameters, match="needs the argument 'password'"):
        bus.client.call_rpc_blocking("auth", "check_password", MappingProxyType({"username": "sally"}))  # type: ignore[arg-type]


def test_result_is_cast_where_the_api_is_registered(bus: BusPath, door: Door) -> None:
    """A caller that knows the annotation of the result gets that type, not its plain form."""

    class Sets(Api):
        class Meta:
            name = "sets"

        def get(self) -> set[int]:
            return {1, 2}

    bus.client.register_api(Sets())
    bus.client.start_in_background()
    assert door.call(bus.sets.get) == {1, 2}


def test_own_registered_api_without_worker(bus: BusPath, door: Door) -> None:
    """Registering alone serves nothing: a worker must run."""
    with pytest.raises(UnknownApi, match=r"No peer advertises the API 'auth'.*lightbus run"):
        door.call(bus.auth.check_password, username="sally", password="secret")
