"""Choosing a live peer for an API, and explaining why there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.peers import Peer, PeerState, Snapshot, Source
from lightbus.core.resolver import choose, explain
from lightbus.exceptions import PeerRefused, PeerUnreachable, UnknownApi
from lightbus.wire.announcement import Announcement


def peer(number: int, host: str = "far", state: PeerState = PeerState.UP) -> Peer:
    """Return a peer on some host."""
    announcement = Announcement(
        bus="b", instance=f"{number:016x}", service="auth-service", process="p", host=host, api_names=("auth",)
    )
    return Peer(announcement=announcement, state=state, source=Source.SEED, changed_at=0.0)


def fixed(*numbers: int) -> Any:
    """Return a `randrange` that returns these numbers, one after another."""
    left = iter(numbers)

    def randrange(stop: int) -> int:
        number = next(left)
        assert 0 <= number < stop
        return number

    return randrange


ONE, TWO, THREE = peer(1), peer(2), peer(3)


@pytest.mark.parametrize(
    ("picks", "loads", "chosen"),
    [
        ((0, 0), (5, 1, 0), TWO),  # the second pick skips the first: peers 0 and 1
        ((0, 0), (1, 5, 0), ONE),
        ((1, 0), (1, 5, 0), ONE),  # peers 1 and 0
        ((2, 1), (0, 7, 9), TWO),  # peers 2 and 1; the idle one was not picked
        ((0, 1), (2, 0, 2), ONE),  # peers 0 and 2 have equal load: the first pick wins
    ],
)
def test_the_less_loaded_of_two(picks: tuple[int, int], loads: tuple[int, ...], chosen: Peer) -> None:
    """Of two random peers, the one with fewer open calls of ours is chosen."""
    peers = (ONE, TWO, THREE)
    in_flight = {each.instance: load for each, load in zip(peers, loads, strict=True)}
    assert choose(peers, in_flight, randrange=fixed(*picks)) is chosen


def test_two_choices_even_the_load_out() -> None:
    """Calls that are never answered spread over all peers, none of which gets many more than another."""
    peers = tuple(peer(number) for number in range(10))
    in_flight: Counter[str] = Counter()
    for _ in range(1000):
        chosen = choose(peers, in_flight)
        assert chosen is not None
        in_flight[chosen.instance] += 1
    assert max(in_flight.values()) - min(in_flight[each.instance] for each in peers) <= 10


def test_the_same_host_goes_first() -> None:
    """A peer of our own host is chosen, however loaded; another one after that has refused."""
    near = peer(9, host="here")
    peers = (ONE, near, TWO)
    assert choose(peers, {near.instance: 99}, host="here") is near
    assert choose(peers, {}, host="here", tried=frozenset({near.instance})) in (ONE, TWO)


def test_the_only_peer_needs_no_choice() -> None:
    """A single peer is chosen; if there is none, or it has refused, none is."""
    assert choose((ONE,), {}, randrange=fixed()) is ONE
    assert choose((ONE,), {}, tried=frozenset({ONE.instance})) is None
    assert choose((), {}) is None


@given(
    hosts=st.lists(st.sampled_from(["here", "far"]), max_size=6),
    tried=st.sets(st.integers(0, 5)),
    loads=st.lists(st.integers(0, 9), min_size=6, max_size=6),
)
def test_untried_peer_is_always_chosen(hosts: list[str], tried: set[int], loads: list[int]) -> None:
    """No peer is chosen twice; while one is untried, one is chosen: near ones first."""
    peers = tuple(peer(number, host) for number, host in enumerate(hosts))
    untried = [each for number, each in enumerate(peers) if number not in tried]
    chosen = choose(
        peers,
        {each.instance: loads[number] for number, each in enumerate(peers)},
        host="here",
        tried=frozenset(f"{number:016x}" for number in tried),
    )
    assert (chosen in untried) if untried else (chosen is None)
    if chosen is not None and any(each.announcement.host == "here" for each in untried):
        assert chosen.announcement.host == "here"


def test_error_for_an_unknown_api() -> None:
    """It has similar names, the advertised APIs, how peers were looked for, and what to check."""
    snapshot = Snapshot(by_api={"auth": (ONE,), "shop": (TWO,), "internal.metrics": (ONE,)})
    error = explain("atuh", snapshot, waited=1.04, where="zeroconf on 127.0.0.1")
    assert type(error) is UnknownApi
    assert str(error) == (
        "No peer advertises the API 'atuh'; looked for 1.0 s (zeroconf on 127.0.0.1). Did you mean 'auth'? "
        "Advertised are: auth, shop. Is its worker running (lightbus run), and on the same bus?"
    )


def test_error_for_a_name_after_a_procedure() -> None:
    """`bus.auth.ping.call_async`, misspelt, asks for an API `auth.ping`: the error lists the valid names there."""
    error = explain("auth.ping", Snapshot(by_api={"auth": (ONE,)}), waited=0.5)
    assert isinstance(error, UnknownApi)
    assert "but there is 'auth'" in str(error)
    assert "call, call_async" in str(error)


def test_error_on_an_empty_bus() -> None:
    """It says that no peer advertises anything."""
    error = explain("auth", Snapshot(), waited=0.0)
    assert str(error) == (
        "No peer advertises the API 'auth'; looked for 0.0 s. No peer advertises anything. "
        "Is its worker running (lightbus run), and on the same bus?"
    )


def test_error_for_an_api_whose_peer_refuses_us() -> None:
    """If one of its peers refuses us, the error says so, whatever the state of the others."""
    ghost = peer(1, state=PeerState.QUARANTINED)
    refusing = replace(peer(2 << 60, state=PeerState.REFUSED), problem="it has the key 12")
    error = explain("auth", Snapshot(announced={"auth": (ghost, refusing)}), waited=1.0)
    assert type(error) is PeerRefused
    assert "lets us in: auth-service 0000… on host far (unverified), auth-service 2000… on host far" in str(error)
    assert "(refused: it has the key 12); looked for 1.0 s" in str(error)


def test_error_names_peers_of_other_buses() -> None:
    """A peer that may have the API on another bus is named with its reason; of many the first three."""
    error = explain("auth", Snapshot(), waited=1.0, refusals=[f"peer {number} has a key" for number in range(9)])
    assert type(error) is PeerRefused
    assert str(error) == (
        "No peer that lets us in advertises the API 'auth'; looked for 1.0 s. "
        "But peer 0 has a key; peer 1 has a key; peer 2 has a key."
    )


def test_error_for_an_api_whose_peers_do_not_answer() -> None:
    """They are named with their problems; of many the first three."""
    ghosts = tuple(peer(number << 60, state=PeerState.QUARANTINED) for number in range(1, 6))
    error = explain("auth", Snapshot(announced={"auth": ghosts}), waited=2.0, hint=lambda peer: "Is its port open?")
    assert type(error) is PeerUnreachable
    assert "auth-service 1000… on host far (unverified), auth-service 2000… on host far (unverified)" in str(error)
    assert "4000…" not in str(error)
    assert str(error).endswith("looked for 2.0 s. Is its port open?")
