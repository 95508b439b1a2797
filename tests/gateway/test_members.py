"""Tests of lightbus.gateway.members: the kinds of names."""

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
def test_kind_of_a_name(shop: BusPath, on_bus: Any, api: str, name: str, member: Member) -> None:
    """A procedure or an event, as the peers that serve the API announce it."""
    assert on_bus(lambda bus: find_member(bus, api, name)) is member


def test_members_of_an_unserved_api_are_none(shop: BusPath, on_bus: Any) -> None:
    """All members of an API; none if no peer is known to serve it."""

    async def names(bus: Any) -> list[list[str]]:
        await find_member(bus, "shop", "price")
        return [names_on(bus, "shop"), names_on(bus, "nobody")]

    assert on_bus(names) == [["ordered", "price", "secret", "seen", "wait"], []]


def test_api_without_a_peer(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is searched, and then the error of the bus is raised."""
    monkeypatch.setattr(members, "LOOK_SECONDS", 0.1)
    with pytest.raises(NotReachable):
        on_bus(lambda bus: find_member(bus, "nobody", "nothing"))
