"""The names of a path, and copying and pickling a path."""

from __future__ import annotations

import copy
import pickle

import pytest

from lightbus import UnsupportedUse, create

bus = create(service_name="shop")


def test_last_part_is_the_member() -> None:
    """The last part is the procedure or event, the parts before it are the API."""
    path = bus.shop.orders.count
    assert path.api_name == "shop.orders"
    assert path.fully_qualified_name == str(path) == "shop.orders.count"
    assert repr(path) == "<BusPath shop.orders.count>"
    assert repr(bus) == "<BusPath root>"
    assert (bus.api_name, bus.fully_qualified_name) == ("", "")


def test_names_of_1x_work_on_members_only() -> None:
    """The properties of 1.x exist on paths of procedures and events; shorter paths have children of these names."""
    path = bus.shop.orders.count
    assert (path.name, str(path.parent), str(path.parent.parent)) == ("count", "shop.orders", "shop")
    assert [str(each) for each in path.ancestors()] == ["shop.orders", "shop", ""]
    assert next(path.ancestors(include_self=True)).fully_qualified_name == "shop.orders.count"
    assert [str(each) for each in (bus.name, bus.parent, bus.shop.name, bus.shop.parent, bus.shop.ancestors)] == [
        *("name", "parent", "shop.name", "shop.parent", "shop.ancestors")
    ]


def test_copied_path_is_the_same_bus() -> None:
    """A copy is the same bus; pickled it would be for another process, which has to make its own."""
    assert copy.copy(bus.shop) is bus.shop
    assert copy.deepcopy({"bus": bus})["bus"] is bus
    with pytest.raises(UnsupportedUse, match=r"^<BusPath shop> cannot be pickled.*lightbus\.create\(\) there"):
        pickle.dumps(bus.shop)
