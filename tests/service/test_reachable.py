"""Names that a path can reach, and its own names."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus import Api, BusPath, Event, create
from lightbus.exceptions import InvalidName
from lightbus.service.reachable import OF_EVERY_PATH, OF_MEMBERS, OF_THE_ROOT, check_reachable


def api(name: str, /, **members: Any) -> Api:
    made: Api = type("Made", (Api,), {"Meta": type("Meta", (), {"name": name}), **members})()
    return made


def method(self: Any) -> None: ...


def test_the_names_are_those_of_the_path() -> None:
    """Every public name of a path is in one of the three sets."""
    public = {name for name in dir(BusPath) if not name.startswith("_")}
    assert public == OF_THE_ROOT | OF_EVERY_PATH | OF_MEMBERS


@pytest.mark.parametrize("name", ["clients", "history", "call.fire", "shop.history", "shop.client", "shop.schema"])
def test_reachable_api_names(name: str) -> None:
    """An API may be named like a method of a path if no path of an event can be meant."""
    check_reachable(api(name, pay=method, paid=Event()))


@pytest.mark.parametrize("name", ["orders", "history"])
@pytest.mark.parametrize("member", [method, Event()], ids=["procedure", "event"])
def test_reachable_member_names(name: str, member: Any) -> None:
    """So may the members of an API whose name has no dot."""
    check_reachable(api(name, **dict.fromkeys((*OF_MEMBERS, *OF_THE_ROOT), member)))


@pytest.mark.parametrize(
    ("refused", "better"),
    [
        (api("client"), "'clients'"),
        (api("client.x"), "'clients'"),
        (api("schema"), "'schemas'"),
        (api("schema.x", pay=method), "'schemas'"),
        (api("_hidden"), "underscore"),
        (api("shop._hidden"), "underscore"),
        (api("shop.api_name", pay=method), "'shop_api_name'"),
        (api("shop.orders.history", pay=method), "'orders_history'"),
        (api("shop.orders", history=method), "'orders_history'"),
        (api("shop.orders", fire=Event()), "'orders_fire'"),
        (api("my-shop", api_name=method), "'my_shop_api_name'"),
        (api("shop", fully_qualified_name=Event()), "'shop_fully_qualified_name'"),
        (api("shop", call_async=method), "'shop_call_async'"),
    ],
)
def test_unreachable_names_are_refused(refused: Api, better: str) -> None:
    """At registration, with a name that can be reached."""
    bus = create(service_name="shop")
    with pytest.raises(InvalidName, match=better):
        bus.client.register_api(refused)
    assert not bus.client.api_registry.all()
