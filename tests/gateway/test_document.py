"""Tests of lightbus.gateway.document: the OpenAPI document for a client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import Api, BusPath, LightbusTimeout
from lightbus.cli.support.connection import Connection
from lightbus.gateway import document
from lightbus.gateway.access import Rules
from lightbus.gateway.clients import Client
from lightbus.gateway.document import Documents
from lightbus.gateway.options import GatewayOptions
from lightbus.gateway.problems import MAX_SECONDS
from lightbus.testing import MemoryBus

from .conftest import CLIENTS

ALL = CLIENTS.with_token("the-token-of-the-shop")
LISTENER = CLIENTS.with_token("the-token-of-a-listener")


def described(on_bus: Any, client: Client | None, *allowed: str) -> dict[str, Any]:
    options = GatewayOptions(rules=Rules.read(allowed), clients=CLIENTS)
    assert client is not None
    found: dict[str, Any] = on_bus(lambda bus: Documents(bus, options).of(client))
    return found


def test_only_what_is_allowed(shop: BusPath, on_bus: Any) -> None:
    """Nothing else is named, not even by its schema."""
    told = described(on_bus, ALL, "shop.price", "fire:shop.ordered", "listen:shop.seen")
    operations = {(path, method) for path, methods in told["paths"].items() for method in methods}
    assert operations == {("/shop/price", "post"), ("/shop/ordered", "post"), ("/shop/seen", "get")}
    assert "secret" not in json.dumps(told)
    assert "other" not in json.dumps(told)


def test_each_client_sees_its_own(shop: BusPath, on_bus: Any) -> None:
    """One that may listen is shown streams."""
    told = described(on_bus, LISTENER, "shop.*")
    assert {method for methods in told["paths"].values() for method in methods} == {"get"}


def test_it_is_an_openapi_document(shop: BusPath, on_bus: Any) -> None:
    """Another program can read it, and the gateway's answers match it."""
    validate = pytest.importorskip("openapi_spec_validator").validate
    told = described(on_bus, ALL, "*")
    validate(told)
    assert told["servers"] == [{"url": "/api"}]
    assert told["security"] == [{"token": []}]
    ordered = told["paths"]["/shop/ordered"]
    assert {*ordered["post"]["responses"]} == {"200", "202", "default"}
    assert {each["name"] for each in ordered["get"]["parameters"]} == {"Last-Event-ID", "since"}
    [timeout] = ordered["post"]["parameters"]
    assert timeout["schema"] == {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS}
    ids = [each["operationId"] for methods in told["paths"].values() for each in methods.values()]
    assert len(ids) == len({*ids})


class NewApi(Api):
    class Meta:
        name = "new"

    def come(self) -> None:
        pass


def test_schemas_are_requested_once(
    shop: BusPath, hub: MemoryBus, on_bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until another version is served."""
    asked: list[int] = []
    ask = document.described_on_bus

    async def counted(*args: Any, **given: Any) -> Any:
        asked.append(1)
        return await ask(*args, **given)

    monkeypatch.setattr(document, "described_on_bus", counted)
    options = GatewayOptions(rules=Rules.read(["*"]), clients=CLIENTS)

    async def main(bus: Connection) -> Any:
        documents = Documents(bus, options)
        assert ALL is not None
        await documents.of(ALL)
        await documents.of(ALL)
        assert len(asked) == 1
        new = hub.create(service_name="new")
        new.client.register_api(NewApi())
        await new.client.start_worker()
        await wait_until_async(lambda: "new" in bus.client.engine.snapshot.by_api)
        told = await documents.of(ALL)
        await new.client.stop_worker()
        return told

    assert "/new/come" in on_bus(main)["paths"]
    assert len(asked) == 2


def test_an_api_whose_worker_does_not_answer(
    shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is missing until it answers, which is logged once; it is asked again after a while. Others are described."""
    ask, silent = Connection.ask, True

    async def asked(bus: Connection, peer: Any, procedure: str, **question: Any) -> Any:
        if silent and question.get("api") == "shop.other":
            raise LightbusTimeout("It does not answer.")
        return await ask(bus, peer, procedure, timeout=60.0, **question)

    monkeypatch.setattr(Connection, "ask", asked)
    options = GatewayOptions(rules=Rules.read(["*"]), clients=CLIENTS)

    async def main(bus: Connection) -> list[bool]:
        nonlocal silent
        documents, found = Documents(bus, options), []
        assert ALL is not None
        for is_silent, is_later in ((True, False), (True, True), (False, False), (False, True), (True, False)):
            silent = is_silent
            if is_later:
                documents._ask_at = 0.0
            paths = (await documents.of(ALL))["paths"]
            assert "/shop/price" in paths
            found.append("/shop.other/do" in paths)
        return found

    assert on_bus(main) == [False, False, False, True, True]
    assert [each.getMessage() for each in caplog.records if each.name == "lightbus.gateway"] == [
        "shop.other is missing in the OpenAPI document until its worker sends its schema: It does not answer."
    ]
