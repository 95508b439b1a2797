"""Which APIs are on the bus, and which of them a name means."""

from __future__ import annotations

import pytest

from lightbus import UnknownApi, UnknownProcedure
from lightbus.cli.support.catalogue import served_apis, split_name, split_target, unanswered_apis
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo


def peer(number: int, *apis: ApiInfo, state: PeerState = PeerState.UP) -> Peer:
    """Return a peer that advertises these."""
    announcement = Announcement(
        bus="b", instance=f"{number:016x}", service="s", process=f"p{number}", host="h", apis=apis
    )
    return Peer(announcement=announcement, state=state, source=Source.SEED, changed_at=0.0)


AUTH = ApiInfo(name="auth", procedures=("check",), events=("added",), digest="aa")
LATER = ApiInfo(name="auth", procedures=("check", "create"), version=2, digest="bb")
ORDERS = ApiInfo(name="shop.orders", procedures=("place",))


def test_apis_and_who_serves_them() -> None:
    """APIs are sorted by name, with the members of all peers, latest version first; only peers that are up count."""
    auth, orders = served_apis([peer(1, AUTH, ORDERS), peer(2, LATER), peer(3, ORDERS, state=PeerState.SUSPECT)])
    assert (auth.name, auth.versions, auth.is_mixed) == ("auth", [2, 1], True)
    assert (auth.procedures, auth.events) == (["check", "create"], ["added"])
    assert [each.instance for each in auth.peers] == [f"{2:016x}", f"{1:016x}"]
    assert (orders.name, orders.is_mixed, len(orders.peers)) == ("shop.orders", False, 1)


def test_peers_of_the_latest_form() -> None:
    """They serve the latest version, with the same members and signatures: any of them can describe it."""
    other = ApiInfo(name="auth", version=2, digest="cc")
    [auth] = served_apis([peer(1, AUTH), peer(2, LATER), peer(3, other), peer(4, LATER)])
    assert [each.instance for each in auth.latest_peers] == [f"{2:016x}", f"{4:016x}"]


def test_who_keeps_what_others_left_serves_nothing() -> None:
    """It knows no signature: it is not asked for any, and is no other version of the API."""
    keeper = ApiInfo(name="auth", events=("added",), version=1, keeps=True)
    [auth] = served_apis([peer(1, keeper), peer(2, AUTH)])
    assert ([each.instance for each in auth.peers], auth.is_mixed) == ([f"{2:016x}"], False)
    assert served_apis([peer(1, keeper)]) == []


def test_apis_of_peers_that_do_not_answer() -> None:
    """They are served by nobody who answers; internal ones, and those that another peer serves, are no loss."""
    inside = ApiInfo(name="internal.x", internal=True)
    silent = [peer(number, AUTH, ORDERS, inside, state=PeerState.QUARANTINED) for number in (1, 2)]
    found = unanswered_apis([*silent, peer(3, AUTH)])
    assert {name: [each.instance for each in peers] for name, peers in found.items()} == {
        "shop.orders": [f"{1:016x}", f"{2:016x}"]
    }


def test_same_version_with_another_schema_is_mixed() -> None:
    """Programs with the same version number and different schemas are detected."""
    other = ApiInfo(name="auth", procedures=("check",), events=("added",), digest="cc")
    assert [api.is_mixed for api in served_apis([peer(1, AUTH), peer(2, other)])] == [True]
    assert [api.is_mixed for api in served_apis([peer(1, AUTH), peer(2, AUTH)])] == [False]


def test_name_is_an_api_or_an_api_and_member() -> None:
    """A name is an API, or an API and its member; dots are part of APIs' names, too."""
    apis = served_apis([peer(1, AUTH, ORDERS)])
    assert split_name("auth", apis) == (apis[0], None)
    assert split_name("auth.added", apis) == (apis[0], "added")
    assert split_name("shop.orders", apis) == (apis[1], None)
    assert split_name("shop.orders.place", apis) == (apis[1], "place")


def test_unknown_name_is_answered_with_near_ones() -> None:
    """A name that is not there ends with near ones."""
    apis = served_apis([peer(1, AUTH, ORDERS)])
    with pytest.raises(UnknownApi, match="Did you mean 'auth'"):
        split_name("auht", apis)
    with pytest.raises(UnknownApi, match="Did you mean 'auth'"):
        split_name("auht.check", apis)
    with pytest.raises(UnknownProcedure, match="Did you mean 'check'"):
        split_name("auth.chek", apis)


def test_target_needs_an_api_and_a_member() -> None:
    """The name of a call or an event needs both parts."""
    assert split_target("shop.orders.place") == ("shop.orders", "place")
    for name in ("auth", ".check", "auth."):
        with pytest.raises(UnknownApi, match="Write the API and its member"):
            split_target(name)
