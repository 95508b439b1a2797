"""Actions of the page on a worker in memory."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus import BusPath, InvalidArguments
from lightbus.cli.support.connection import Connection
from lightbus.dashboard import questions
from lightbus.dashboard.actions import ACTIONS
from lightbus.testing import MemoryBus

CALL = {"api": "auth", "procedure": "check_password", "arguments": {"username": "ada", "password": "secret"}}


def test_call_returns_its_time_and_peer(shop: BusPath, on_bus: Any) -> None:
    """The answer contains its duration and its peer; a named peer is called."""
    instance = shop.client.engine.identity.instance
    for peer in (None, instance):
        told = on_bus(lambda bus, peer=peer: ACTIONS["call"](bus, {**CALL, "peer": peer}))
        assert (told["result"], told["service"], told["instance"]) == (True, "shop", instance)
        assert told["seconds"] > 0


def test_failing_call(shop: BusPath, on_bus: Any) -> None:
    """The page gets the handler's error."""
    given = {"api": "auth", "procedure": "fail", "arguments": {"why": "tired"}}
    told = on_bus(lambda bus: ACTIONS["call"](bus, given))
    assert told["error"] == "worker_error"
    assert "tired" in told["message"]
    assert "Traceback" not in told["message"]  # the page folds it
    assert "in fail" in told["trace"]
    assert "result" not in told


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"api": ""}, "'api' is missing"),
        ({"procedure": 1}, "'procedure' is missing"),
        ({"arguments": [1]}, "'arguments' has to be an object"),
        ({"peer": "0123"}, "'0123' does not serve this API any more"),
        ({"peer": {"a": 1}}, "does not serve this API any more"),
        ({"timeout": "soon"}, "'timeout' has to be a number of seconds"),
        ({"timeout": -1}, "'timeout' has to be"),
        ({"timeout": float("nan")}, "'timeout' has to be"),
        ({"timeout": float("inf")}, "'timeout' has to be"),
        ({"timeout": True}, "'timeout' has to be"),
    ],
)
def test_invalid_call(shop: BusPath, on_bus: Any, wrong: dict[str, Any], error: str) -> None:
    """Whatever is sent, the answer says what is wrong with it."""
    with pytest.raises(InvalidArguments, match=error):
        on_bus(lambda bus: ACTIONS["call"](bus, {**CALL, **wrong}))


def test_fired_event_is_stored_with_its_id(shop: BusPath, on_bus: Any) -> None:
    """The page gets the id of the stored event."""
    given = {"api": "auth", "event": "user_registered", "arguments": {"username": "ada"}}
    told = on_bus(lambda bus: ACTIONS["fire"](bus, given))
    [kept] = shop.auth.user_registered.history()
    assert (told["id"], told["native_id"]) == (kept.id, kept.native_id)


def test_dead_letters_are_retried_and_dropped(hub: MemoryBus, shop: BusPath, on_bus: Any) -> None:
    """The named ones, at the publisher that stores them."""
    first, second = (shop.auth.user_registered(username="eve").native_id for _ in range(2))
    hub.wait_until_handled()
    at = {"group": "shop-greet", "instance": shop.client.engine.identity.instance}

    async def act(bus: Connection) -> list[Any]:
        done = [await ACTIONS["drop-dead"](bus, {**at, "native_ids": [first]})]
        left = await questions.dead_letters(bus, "")
        return [*done, [each["native_id"] for each in left["dead"]]]

    assert on_bus(act) == [{"done": [first]}, [second]]
    assert on_bus(lambda bus: ACTIONS["retry-dead"](bus, {**at, "native_ids": [second, first]})) == {"done": [second]}
    for wrong in (None, "1", [1]):
        with pytest.raises(InvalidArguments, match="'native_ids' has to be a list"):
            on_bus(lambda bus, wrong=wrong: ACTIONS["drop-dead"](bus, {**at, "native_ids": wrong}))


def test_group_is_removed(shop: BusPath, on_bus: Any) -> None:
    """At each publisher that knows it; for an unknown group the answer says so."""
    shop.auth.user_registered(username="ada")
    for group, publishers in (("shop-greet", 1), ("unknown", 0)):
        given = {"api": "auth", "group": group}
        told = on_bus(lambda bus, given=given: ACTIONS["remove-group"](bus, given))
        assert told == {"publishers": publishers, "silent": []}
