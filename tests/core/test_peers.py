"""One peer as we know it, and the snapshot of all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightbus.core.peers import Peer, PeerState, Snapshot, Source
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

CHECKS = ApiInfo(name="auth", procedures=("check",), events=("seen",))
ONLY_EVENTS = ApiInfo(name="shop", events=("sold",))
KEPT = ApiInfo(name="past", events=("gone",), keeps=True)


def peer(*apis: ApiInfo, state: PeerState = PeerState.UP, **fields: Any) -> Peer:
    """Return a peer with some APIs."""
    announcement = Announcement(bus="b", instance="a" * 16, service="s", process="p", host="h", apis=apis)
    return Peer(announcement=announcement, state=state, source=Source.DISCOVERY, changed_at=0, **fields)


def untold(*names: str | None) -> Peer:
    """Return a peer that has not answered yet: at most the names of its APIs are known."""
    known = peer(state=PeerState.UNVERIFIED)
    api_names = None if names == (None,) else names
    return replace(known, announcement=replace(known.announcement, apis=None, api_names=api_names))


@pytest.mark.parametrize("state", PeerState)
def test_only_peers_that_are_up_get_calls(state: PeerState) -> None:
    """A draining peer is live and finishes its work, and gets no new calls."""
    one = peer(state=state)
    assert one.is_up is (state is PeerState.UP)
    assert one.is_live is (state in (PeerState.UP, PeerState.DRAINING))


def test_kept_apis_are_not_advertised() -> None:
    """An API of which it only stores old events is not advertised."""
    one = peer(CHECKS, ONLY_EVENTS, KEPT)
    assert [one.advertises(name) for name in ("auth", "shop", "past", "other")] == [True, True, False, False]
    assert one.keeps == {"past"}


def test_publishers_of_events_only_serve_no_procedures() -> None:
    """They get no calls."""
    one = peer(CHECKS, ONLY_EVENTS)
    assert [one.serves(name) for name in ("auth", "shop", "other")] == [True, False, False]


def test_peer_without_details_may_serve_all() -> None:
    """Before it has answered, at most the names of its APIs are known."""
    assert (untold("auth").advertises("auth"), untold("auth").advertises("shop")) == (True, False)
    assert untold(None).advertises("auth") is None
    assert untold("auth").serves("anything")
    assert untold("auth").keeps == frozenset()


def test_peer_is_readable_in_a_log() -> None:
    """Its announcement, its state, and its problem, if any."""
    one = peer()
    assert str(one) == f"{one.announcement} (up)"
    quarantined = replace(one, state=PeerState.QUARANTINED, problem="nobody listens there")
    assert str(quarantined) == f"{one.announcement} (unverified: nobody listens there)"


def test_empty_snapshot() -> None:
    """All its methods return something."""
    nothing = Snapshot()
    assert not nothing.is_up("a" * 16)
    assert nothing.publishers("auth") == ()
    assert nothing.api_names() == []


@pytest.mark.parametrize(
    ("state", "up"), [(PeerState.UP, True), (PeerState.DRAINING, True), (PeerState.SUSPECT, False)]
)
def test_live_peers_of_a_snapshot(state: PeerState, up: bool) -> None:
    """Also draining ones: their answers are awaited."""
    one = peer(state=state)
    assert Snapshot(peers={one.instance: one}).is_up(one.instance) is up


def test_publishers_are_those_with_events() -> None:
    """Peers that advertise an API first, then those that store old events of it."""
    one, other = peer(CHECKS), peer(replace(KEPT, name="auth"))
    snapshot = Snapshot(by_api={"auth": (one,)}, keeping={"auth": (other,), "past": (other,)})
    assert snapshot.publishers("auth") == (one, other)
    assert snapshot.publishers("past") == (other,)


def test_internal_apis_are_not_listed() -> None:
    """Public ones are, in order."""
    one = (peer(CHECKS),)
    assert Snapshot(by_api={"shop": one, "internal.peer": one, "auth": one}).api_names() == ["auth", "shop"]
