"""The names on the bus: completions, schemas, waiting for APIs."""

from __future__ import annotations

import asyncio

import pytest

import lightbus
from helpers import wait_until
from lightbus import Api, BusPath, InvalidName, InvalidParameters, LightbusTimeout, UnknownApi
from lightbus.deadline import Deadline
from lightbus.testing import MemoryBus


def test_wait_for_apis(served: BusPath, caller: BusPath) -> None:
    """Waiting for APIs raises with the missing and the advertised ones."""
    caller.client.wait_for_apis("auth")
    asyncio.run(caller.client.wait_for_apis_async("auth"))
    missing = r"Within 0\.2 s no peer advertised auht, bank\. Advertised: auth"
    with pytest.raises(LightbusTimeout, match=missing):
        caller.client.wait_for_apis("auth", "auht", "bank", timeout=0.2)
    with pytest.raises(LightbusTimeout, match=missing):
        asyncio.run(caller.client.wait_for_apis_async("auth", "auht", "bank", timeout=0.2))
    with pytest.raises(InvalidName, match="Give each by itself"):
        caller.client.wait_for_apis(["auth"])  # type: ignore[arg-type]


def test_completions_are_of_local_and_discovered_apis(served: BusPath, caller: BusPath) -> None:
    """`dir()` knows the APIs and their members: registered here, or discovered on the bus."""
    assert {"auth", "client", "schema"} <= {*dir(served)}
    assert {"check_password", "user_registered", "fire", "listen"} <= {*dir(served.auth)}
    caller.client.wait_for_apis("auth")
    assert "auth" in dir(caller)
    assert {"check_password", "user_registered"} <= {*dir(caller.auth)}
    assert "internal" not in dir(caller)


def test_schemas_of_a_remote_api(served: BusPath, caller: BusPath) -> None:
    """The schemas of an API that is not loaded are fetched from a peer, and used to validate."""
    schema = caller.auth.check_password.parameter_schema
    assert schema["required"] == ["username", "password"]
    assert schema["properties"]["username"]["type"] == "string"
    assert caller.auth.check_password.response_schema == served.auth.check_password.response_schema
    assert caller.auth.user_registered.response_schema is None
    assert caller.auth.user_registered.parameter_schema["properties"]["age"]["default"] == 18
    with pytest.raises(InvalidParameters, match="password"):
        caller.auth.check_password.validate_parameters({"username": "sally"})
    with pytest.raises(lightbus.ValidationError, match="'yes', but it is not of type"):
        caller.auth.check_password.validate_response("yes")
    caller.auth.check_password.validate_response(True)
    assert caller.schema.api_names == []
    with pytest.raises(UnknownApi, match="'bank'"):
        _ = caller.bank.get.parameter_schema


def test_peer_that_leaves_as_it_is_found(served: BusPath, caller: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the API is looked for again."""
    channel = caller.client._engines.channel
    resolve, found = channel.resolve, list[str]()

    def resolve_again(api: str, deadline: Deadline) -> None:
        found.append(api)
        if len(found) > 1:
            resolve(api, deadline)

    monkeypatch.setattr(channel, "resolve", resolve_again)
    assert caller.auth.check_password.parameter_schema["required"] == ["username", "password"]
    assert found == ["auth", "auth"]


def test_schema_of_a_remote_api_that_changed(hub: MemoryBus, caller: BusPath) -> None:
    """When the API changes, so does its schema: the one asked for earlier is not believed for longer."""
    for first in (True, False):
        bus = hub.create(service_name="changing")

        class Changing(Api):
            class Meta:
                name = "changing"

            if first:

                def get(self, old: int) -> int:
                    return old
            else:

                def get(self, new: int) -> int:  # type: ignore[misc]
                    return new

        bus.client.register_api(Changing())
        bus.client.start_in_background()
        name = "old" if first else "new"
        assert [*caller.changing.get.parameter_schema["properties"]] == [name]
        assert caller.changing.get(**{name: 7}) == 7
        bus.client.close()
        wait_until(lambda: "changing" not in caller.client.engine.snapshot.by_api)
