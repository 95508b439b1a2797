"""What a path says of itself, and what becomes of it when it is copied or sent elsewhere."""

from __future__ import annotations

import copy
import pickle

import pytest

from lightbus import UnsupportedUse, create

bus = create(service_name="shop")


def test_names() -> None:
    """The last part is the procedure or event, what is before it is the API."""
    path = bus.shop.orders.count
    assert path.api_name == "shop.orders"
    assert path.fully_qualified_name == str(path) == "shop.orders.count"
    assert repr(path) == "<BusPath shop.orders.count>"
    assert repr(bus) == "<BusPath root>"
    assert (bus.api_name, bus.fully_qualified_name) == ("", "")


def test_copies() -> None:
    """A copy is the same bus; pickled it would be for another process, which has to make its own."""
    assert copy.copy(bus.shop) is bus.shop
    assert copy.deepcopy({"bus": bus})["bus"] is bus
    with pytest.raises(UnsupportedUse, match=r"^<BusPath shop> cannot be pickled.*lightbus\.create\(\) there"):
        pickle.dumps(bus.shop)
