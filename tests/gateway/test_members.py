"""Tests of lightbus.gateway.members: what a name is."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus import BusPath, NotReachable
from lightbus.gateway import members
from lightbus.gateway.members import Member, find_member, names_on


@pytest.mark.parametrize(
    ("api", "name", "member"),
    [
        ("shop", "price", Member.PROCEDURE),
        ("shop", "ordered", Member.EVENT),
        ("shop", "*", Member.EVENT),
        ("shop", "nothing", Member.UNKNOWN),
        ("shop", "do", Member.UNKNOWN),
        ("shop.other", "do", Member.PROCEDURE),
    ],
)
def test_what_a_name_is(shop: BusPath, on_bus: Any, api: str, name: str, member: Member) -> None:
    """As those say who serve the API."""
    assert on_bus(lambda bus: find_member(bus, api, name)) is member


def test_members_of_an_unserved_api_are_none(shop: BusPath, on_bus: Any) -> None:
    """All that an API has; of one that nobody is known to serve there are none."""

    async def names(bus: Any) -> list[list[str]]:
        await find_member(bus, "shop", "price")
        return [names_on(bus, "shop"), names_on(bus, "nobody")]

    assert on_bus(names) == [["ordered", "price", "secret", "seen", "wait"], []]


def test_an_api_of_nobody(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for, and then the bus says why there is none."""
    monkeypatch.setattr(members, "LOOK_SECONDS", 0.1)
    with pytest.raises(NotReachable):
        on_bus(lambda bus: find_member(bus, "nobody", "nothing"))
