"""The known peers: the state after each input, and the facts passed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lightbus.core import registry as module
from lightbus.core.registry import (
    Fact,
    Peer,
    PeerJoined,
    PeerLeft,
    PeerState,
    PeerUpdated,
    Registry,
    Source,
    retry_delay,
)
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

OWN = "0" * 16
A, B, C, D, E, F = (digit * 16 for digit in "abcdef")
AUTH = ApiInfo(name="auth", procedures=("check",), events=("seen",))
SHOP = ApiInfo(name="shop", events=("sold",))


def announced(instance: str, *apis: ApiInfo, **fields: Any) -> Announcement:
    """Return the announcement of a peer in mode host."""
    values = {"bus": "b", "instance": instance, "service": "s", "process": "p", "host": "h", "apis": apis}
    return Announcement(**{**values, **fields})


def hint(instance: str, *names: str) -> Announcement:
    """Return what a TXT record says: names only."""
    return announced(instance, apis=None, api_names=names)


def at_addresses(instance: str) -> Announcement:
    """Return the announcement of a peer with very many addresses."""
    addresses = tuple(f"10.0.0.{number}" for number in range(1, 17))
    return replace(hint(instance, "auth"), rpc_port=7001, event_port=7002, addresses=addresses)


def up(registry: Registry, instance: str, *apis: ApiInfo, now: float = 0.0, **kwargs: Any) -> list[Fact]:
    """Let a peer answer at its own endpoint."""
    where = {"endpoint": f"ipc://{instance}", "event_endpoint": f"ipc://{instance}.pub", **kwargs}
    return registry.answered(announced(instance, *apis), now, **where)


def state_of(registry: Registry, instance: str) -> PeerState:
    """Return the state that a peer is in."""
    return registry.peers[instance].state


def folded(facts: Iterable[Fact], live: dict[str, Peer]) -> dict[str, Peer]:
    """Apply facts like a channel: a peer that joined exists until it left. Fail for an inconsistent fact."""
    for fact in facts:
        instance = fact.peer.instance
        if isinstance(fact, PeerJoined):
            assert instance not in live
            assert fact.peer.is_up
            live[instance] = fact.peer
        elif isinstance(fact, PeerUpdated):
            assert instance in live or fact.peer.state is PeerState.DRAINING
            live[instance] = fact.peer
        else:
            assert fact.reason
            del live[instance]
    return live


def told(peers: Iterable[Peer]) -> dict[str, tuple[object, ...]]:
    """Return what a channel knows of each peer."""
    return {peer.instance: (peer.state, peer.announcement, peer.endpoint, peer.event_endpoint) for peer in peers}


class AnySequence(RuleBasedStateMachine):
    """For any inputs in any order the registry stays legal, and its facts match its snapshot."""

    instances = st.sampled_from([A, B, C, D])
    apis = st.sampled_from([(), (AUTH,), (AUTH, SHOP)])
    endpoints = st.sampled_from(["ipc://1", "ipc://2", "ipc://3"])

    @initialize()
    def start(self) -> None:
        self.registry = Registry(own=OWN)
        self.now = 0.0
        self.live: dict[str, Peer] = {}
        self.gone: set[str] = set()

    def take(self, do: Callable[..., list[Fact] | None], *args: Any, remembered: bool = True, **kwargs: Any) -> None:
        """Carry out an input, apply its facts, and record which peers are gone for good."""
        known = set(self.registry.peers)
        folded(do(*args, **kwargs) or [], self.live)
        if remembered:
            self.gone |= known - self.registry.peers.keys()

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(instance=instances, source=st.sampled_from(Source), apis=apis)
    def is_announced(self, instance: str, source: Source, apis: tuple[ApiInfo, ...]) -> None:
        was_known = instance in self.registry.peers
        facts = self.registry.announced(announced(instance, *apis), source, self.now)
        assert facts == []
        if source is Source.HEARSAY and instance in self.gone and not was_known:
            assert instance not in self.registry.peers

    @rule(source=st.sampled_from(Source))
    def we_hear_ourselves(self, source: Source) -> None:
        assert self.registry.announced(announced(OWN, AUTH), source, self.now) == []
        assert OWN not in self.registry.peers

    @rule(instance=instances, apis=apis, endpoint=endpoints, draining=st.booleans())
    def answers(self, instance: str, apis: tuple[ApiInfo, ...], endpoint: str, draining: bool) -> None:
        where: dict[str, Any] = {"endpoint": endpoint, "event_endpoint": f"{endpoint}.pub"}
        self.take(self.registry.answered, announced(instance, *apis), self.now, **where, draining=draining)
        self.gone.discard(instance)
        assert self.registry.peers[instance].is_live

    @rule(instance=instances)
    def is_lost(self, instance: str) -> None:
        self.take(self.registry.lost, instance, self.now, "went away")
        assert instance not in self.live

    @rule(instance=instances, refused=st.booleans())
    def is_silent(self, instance: str, refused: bool) -> None:
        self.take(self.registry.silent, instance, self.now, "does not answer", refused=refused)
        assert instance not in self.live

    @rule(instance=instances)
    def is_denied(self, instance: str) -> None:
        self.take(self.registry.denied, instance, self.now, "has another key")
        assert instance not in self.live

    @rule(instance=instances)
    def drains(self, instance: str) -> None:
        self.take(self.registry.drains, instance, self.now)

    @rule(instance=instances)
    def leaves(self, instance: str) -> None:
        self.take(self.registry.left, instance, "said goodbye")
        assert instance not in self.registry.peers

    @rule(instance=instances)
    def is_withdrawn(self, instance: str) -> None:
        was_live = instance in self.live
        self.take(self.registry.withdrawn, instance, remembered=False)
        assert (instance in self.live) is was_live

    @rule(instance=instances)
    def is_rumoured_gone(self, instance: str) -> None:
        was_live = instance in self.live
        self.take(self.registry.reported_lost, instance, remembered=False)
        assert (instance in self.live) is was_live

    @rule()
    def another_registry_follows(self) -> None:
        follower = Registry(own=OWN)
        follower.inherit(self.registry.peers.values(), self.now)
        self.registry, self.gone = follower, set()
        self.live = {instance: peer for instance, peer in self.live.items() if peer.is_up}

    @rule()
    def the_silent_are_forgotten(self) -> None:
        live = dict(self.live)
        self.take(self.registry.forget_silent, self.now)
        assert told(live.values()) == told(peer for peer in self.registry.peers.values() if peer.is_live)

    @invariant()
    def peers_are_legal(self) -> None:
        peers = self.registry.peers
        assert all(instance == peer.instance for instance, peer in peers.items())
        assert all(peer.refused < module.MAX_REFUSED and peer.failures >= peer.refused for peer in peers.values())
        assert all(peer.changed_at <= self.now for peer in peers.values())
        assert self.registry.heard_at.keys() == peers.keys()
        assert all(at <= self.now for at in self.registry.heard_at.values())
        assert all(peer.failures == 0 and peer.endpoint for peer in peers.values() if peer.is_live)
        endpoints = [peer.endpoint for peer in peers.values() if peer.endpoint]
        assert len(endpoints) == len(set(endpoints))

    @invariant()
    def facts_give_the_snapshot(self) -> None:
        snapshot = self.registry.snapshot()
        assert told(self.live.values()) == told(p for p in snapshot.peers.values() if snapshot.is_up(p.instance))

    @invariant()
    def only_peers_that_are_up_are_offered(self) -> None:
        snapshot = self.registry.snapshot()
        offered = {(name, peer.instance) for name, peers in snapshot.by_api.items() for peer in peers}
        not_up = {(name, peer.instance) for name, peers in snapshot.announced.items() for peer in peers}
        every = [(name, peer) for peer in self.registry.peers.values() for name in peer.announcement.api_names or ()]
        assert offered == {(name, peer.instance) for name, peer in every if peer.state is PeerState.UP}
        assert not_up == {(name, peer.instance) for name, peer in every if peer.state is not PeerState.UP}
        assert snapshot.events == {(name, {"auth": "seen", "shop": "sold"}[name]) for name, _ in offered}
        assert self.registry.verified() == sorted(p.instance for p in self.registry.peers.values() if p.is_up)

    @invariant()
    def whoever_is_due_is_not_live(self) -> None:
        due = {peer.instance for peer in self.registry.due(self.now)}
        assert due == {p.instance for p in self.registry.peers.values() if not p.is_live and p.retry_at <= self.now}


TestAnySequence = AnySequence.TestCase


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0.25), (1, 0.25), (2, 0.5), (3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 8.0), (100_000, 8.0)],
)
def test_retry_delay_doubles_up_to_eight_seconds(failures: int, seconds: float) -> None:
    """From a quarter of a second, however long a peer is away."""
    assert retry_delay(failures) == seconds


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_retry_delay_never_falls(one: int, other: int) -> None:
    """More failures never mean a shorter pause."""
    assert retry_delay(min(one, other)) <= retry_delay(max(one, other))


def bring(registry: Registry, state: PeerState) -> None:
    """Bring the peer A into a state, at time 0."""
    if state in (PeerState.UNVERIFIED, PeerState.QUARANTINED, PeerState.REFUSED):
        registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.0)
    else:
        up(registry, A, AUTH, draining=state is PeerState.DRAINING)
    if state is PeerState.SUSPECT:
        registry.lost(A, 0.0, "went away")
    if state is PeerState.QUARANTINED:
        registry.silent(A, 0.0, "does not answer")
    if state is PeerState.REFUSED:
        registry.denied(A, 0.0, "has another key")


@pytest.mark.parametrize(
    ("before", "do", "after", "facts"),
    [
        ("UNVERIFIED", "answered", "UP", [PeerJoined]),
        ("UNVERIFIED", "draining", "DRAINING", [PeerUpdated]),
        ("UNVERIFIED", "drains", "UNVERIFIED", []),
        ("UNVERIFIED", "lost", "QUARANTINED", []),
        ("UNVERIFIED", "silent", "QUARANTINED", []),
        ("UNVERIFIED", "denied", "REFUSED", []),
        ("QUARANTINED", "answered", "UP", [PeerJoined]),
        ("QUARANTINED", "draining", "DRAINING", [PeerUpdated]),
        ("QUARANTINED", "drains", "QUARANTINED", []),
        ("QUARANTINED", "lost", "QUARANTINED", []),
        ("QUARANTINED", "silent", "QUARANTINED", []),
        ("QUARANTINED", "denied", "REFUSED", []),
        ("UP", "answered", "UP", []),
        ("UP", "draining", "DRAINING", [PeerUpdated]),
        ("UP", "drains", "DRAINING", [PeerUpdated]),
        ("UP", "lost", "SUSPECT", [PeerLeft]),
        ("UP", "silent", "SUSPECT", [PeerLeft]),
        ("UP", "denied", "REFUSED", [PeerLeft]),
        ("DRAINING", "answered", "DRAINING", []),
        ("DRAINING", "draining", "DRAINING", []),
        ("DRAINING", "drains", "DRAINING", []),
        ("DRAINING", "lost", "SUSPECT", [PeerLeft]),
        ("DRAINING", "silent", "SUSPECT", [PeerLeft]),
        ("DRAINING", "denied", "REFUSED", [PeerLeft]),
        ("SUSPECT", "answered", "UP", [PeerJoined]),
        ("SUSPECT", "draining", "DRAINING", [PeerUpdated]),
        ("SUSPECT", "drains", "SUSPECT", []),
        ("SUSPECT", "lost", "SUSPECT", []),
        ("SUSPECT", "silent", "SUSPECT", []),
        ("SUSPECT", "denied", "REFUSED", []),
        ("REFUSED", "answered", "UP", [PeerJoined]),
        ("REFUSED", "draining", "DRAINING", [PeerUpdated]),
        ("REFUSED", "drains", "REFUSED", []),
        ("REFUSED", "lost", "QUARANTINED", []),
        ("REFUSED", "silent", "QUARANTINED", []),
        ("REFUSED", "denied", "REFUSED", []),
    ],
)
def test_each_input_in_each_state(before: str, do: str, after: str, facts: list[type]) -> None:
    """It gives one state, and the facts for others."""
    registry = Registry()
    bring(registry, PeerState[before])
    inputs: dict[str, Any] = {
        "answered": lambda: up(registry, A, AUTH, now=1.0),
        "draining": lambda: up(registry, A, AUTH, now=1.0, draining=True),
        "drains": lambda: registry.drains(A, 1.0),
        "lost": lambda: registry.lost(A, 1.0, "went away"),
        "silent": lambda: registry.silent(A, 1.0, "does not answer"),
        "denied": lambda: registry.denied(A, 1.0, "has another key"),
    }
    assert [type(fact) for fact in inputs[do]()] == facts
    assert state_of(registry, A) is PeerState[after]
    assert registry.peers[A].changed_at == (0.0 if before == after else 1.0)


def test_an_announcement_is_a_hint() -> None:
    """An announced peer may be connected to at once, and is offered only after it has answered."""
    registry = Registry()
    assert registry.announced(hint(A, "auth"), Source.DISCOVERY, 1.0) == []
    snapshot = registry.snapshot()
    assert [peer.instance for peer in registry.due(1.0)] == [A]
    assert not snapshot.by_api
    assert [peer.instance for peer in snapshot.announced["auth"]] == [A]
    assert not snapshot.is_up(A)
    assert registry.verified() == []


def test_a_peer_that_answered_is_offered() -> None:
    """A WELCOME makes a peer up, with its announcement and its endpoints."""
    registry = Registry()
    [fact] = up(registry, A, AUTH, SHOP, now=2.0)
    assert isinstance(fact, PeerJoined)
    assert (fact.peer.endpoint, fact.peer.event_endpoint) == (f"ipc://{A}", f"ipc://{A}.pub")
    snapshot = registry.snapshot()
    assert snapshot.by_api == {"auth": (fact.peer,), "shop": (fact.peer,)}
    assert snapshot.events == {("auth", "seen"), ("shop", "sold")}
    assert snapshot.api_names() == ["auth", "shop"]
    assert registry.due(99.0) == []


def test_peer_that_only_keeps_events_gets_no_calls() -> None:
    """Nor new events; listeners and histories find it beside the others."""
    registry = Registry()
    [keeper] = up(registry, A, ApiInfo(name="auth", events=("seen",), keeps=True))
    snapshot = registry.snapshot()
    assert (snapshot.by_api, snapshot.events, snapshot.api_names(), registry.advertising("auth")) == (
        {},
        frozenset(),
        [],
        [],
    )
    assert snapshot.publishers("auth") == (keeper.peer,)
    [worker] = up(registry, B, AUTH)
    snapshot = registry.snapshot()
    assert snapshot.by_api == {"auth": (worker.peer,)}
    assert snapshot.publishers("auth") == (worker.peer, keeper.peer)


def test_internal_apis_are_not_listed() -> None:
    """Lists for people leave out internal APIs."""
    registry = Registry()
    up(registry, A, AUTH, ApiInfo(name="internal.state"))
    assert registry.snapshot().api_names() == ["auth"]


def test_changes_of_a_peer_are_passed_on() -> None:
    """A change of its APIs or endpoints is a fact; a repetition is not."""
    registry = Registry()
    up(registry, A, AUTH)
    assert up(registry, A, AUTH, now=1.0) == []
    [more] = up(registry, A, AUTH, SHOP, now=2.0)
    assert isinstance(more, PeerUpdated)
    assert registry.snapshot().by_api["shop"] == (more.peer,)
    [moved] = up(registry, A, AUTH, SHOP, now=3.0, event_endpoint="ipc://elsewhere")
    assert isinstance(moved, PeerUpdated)
    assert moved.peer.event_endpoint == "ipc://elsewhere"


def test_announcement_does_not_change_a_peer_that_is_up() -> None:
    """A peer's own announcement over its connection takes precedence: anyone can send others."""
    registry = Registry()
    up(registry, A, AUTH)
    assert registry.announced(hint(A, "forged"), Source.DISCOVERY, 1.0) == []
    assert registry.withdrawn(A) == []
    assert list(registry.snapshot().by_api) == ["auth"]


def test_addresses_announced_in_the_meantime_are_tried() -> None:
    """After a break, old and new addresses are tried: the host may have another one."""
    registry = Registry()
    here, there = (
        announced(A, AUTH, addresses=(each,), rpc_port=1, event_port=2) for each in ("192.0.2.1", "192.0.2.9")
    )
    registry.answered(here, 0.0, endpoint="tcp://192.0.2.1:1", event_endpoint="")
    assert registry.announced(there, Source.DISCOVERY, 1.0) == []
    assert registry.peers[A].announcement == here
    assert registry.announced(there, Source.HEARSAY, 1.0) == []
    registry.lost(A, 2.0, "went away")
    assert registry.peers[A].announcement.addresses == ("192.0.2.1", "192.0.2.9")
    registry.answered(there, 3.0, endpoint="tcp://192.0.2.9:1", event_endpoint="")
    registry.lost(A, 4.0, "went away")
    assert registry.peers[A].announcement == there


def test_a_draining_peer_is_offered_no_more() -> None:
    """It counts as live, so that its running calls are awaited."""
    registry = Registry()
    up(registry, A, AUTH)
    registry.drains(A, 1.0)
    snapshot = registry.snapshot()
    assert "auth" not in snapshot.by_api
    assert snapshot.is_up(A)
    assert registry.due(99.0) == []


def test_a_lost_peer_is_tried_again() -> None:
    """A broken connection is no proof of death: it is connected to again after growing pauses."""
    registry = Registry()
    up(registry, A, AUTH)
    [fact] = registry.lost(A, 10.0, "went away")
    assert (type(fact), str(fact.peer.instance)) == (PeerLeft, A)
    assert [peer.instance for peer in registry.due(10.2)] == []
    assert [peer.instance for peer in registry.due(10.25)] == [A]
    registry.silent(A, 11.0, "does not answer")
    assert registry.peers[A].retry_at == 11.5
    up(registry, A, AUTH, now=12.0)
    assert registry.peers[A].failures == 0


def test_a_peer_whose_connection_never_lasts_is_tried_less_often() -> None:
    """As one that sends something unreadable right after its WELCOME: it must not come and go four times a second."""
    registry, now, joined = Registry(), 0.0, 0
    while now < 60.0:
        joined += len(up(registry, A, AUTH, now=now))
        registry.lost(A, now + 0.01, "sent an invalid message")
        now = registry.peers[A].retry_at
    assert joined <= 15
    assert now - 60.0 <= 8.01
    up(registry, A, AUTH, now=now)
    registry.lost(A, now + 1.0, "went away")  # it has lasted: an ordinary loss
    assert registry.peers[A].retry_at == now + 1.25


def test_new_announcement_ends_a_pause() -> None:
    """It allows one attempt at once; hearsay changes no pause."""
    registry = Registry()
    bring(registry, PeerState.QUARANTINED)
    assert registry.announced(hint(A, "auth"), Source.HEARSAY, 0.1) == []
    assert registry.due(0.1) == []
    registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.2)
    assert [peer.instance for peer in registry.due(0.2)] == [A]


def test_three_refusals_in_a_row_remove_a_peer() -> None:
    """If nothing listens, the third attempt is the last; an attempt without an answer restarts the count."""
    registry = Registry()
    registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.0)
    for refused in (True, True, False, True, True):
        registry.silent(A, 0.0, "is not there", refused=refused)
        assert A in registry.peers
    assert registry.silent(A, 0.0, "is not there", refused=True) == []
    assert A not in registry.peers


def test_a_withdrawn_hint_counts_again_later() -> None:
    """A withdrawn hint leaves nothing, and the next one is as good as the first, hearsay or not."""
    registry = Registry()
    registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.0)
    assert registry.withdrawn(A) == []
    assert A not in registry.peers
    registry.announced(hint(A, "auth"), Source.HEARSAY, 1.0)
    assert state_of(registry, A) is PeerState.UNVERIFIED


def test_reported_loss_removes_only_hearsay() -> None:
    """And the peer can come back by hearsay."""
    registry = Registry()
    registry.announced(hint(A), Source.HEARSAY, 0.0)
    registry.announced(hint(B), Source.DISCOVERY, 0.0)
    registry.announced(hint(C), Source.HEARSAY, 0.0)
    registry.silent(C, 0.0, "does not answer")
    up(registry, D)
    for instance in (A, B, C, D, E):
        assert registry.reported_lost(instance) == []
    assert list(registry.peers) == [B, C, D]
    registry.announced(hint(A), Source.HEARSAY, 1.0)
    assert A in registry.peers


def test_a_claim_is_more_than_hearsay() -> None:
    """A peer known by hearsay that sends HELLO itself is no longer hearsay."""
    registry = Registry()
    registry.announced(hint(A), Source.HEARSAY, 0.0)
    registry.announced(hint(A), Source.CLAIM, 1.0)
    registry.reported_lost(A)
    assert A in registry.peers


def test_peers_of_an_earlier_registry_are_inherited() -> None:
    """Peers that it saw up are up here until a change; ourselves excluded."""
    first, second = Registry(), Registry(own=OWN)
    for instance in (A, B, OWN):
        up(first, instance, AUTH)
    first.lost(B, 1.0, "went away")
    second.inherit(first.peers.values(), 50.0)
    assert told(second.peers.values()) == told([first.peers[A]])
    assert second.heard_at[A] == 50.0
    assert [type(fact) for fact in second.lost(A, 51.0, "went away")] == [PeerLeft]


def test_advertising_lists_peers_in_any_state() -> None:
    """Peers with unknown APIs are not among them."""
    registry = Registry()
    up(registry, A, AUTH)
    registry.announced(hint(B, "auth", "shop"), Source.DISCOVERY, 0.0)
    registry.announced(announced(C, apis=None), Source.DISCOVERY, 0.0)
    assert [peer.instance for peer in registry.advertising("auth")] == [A, B]


def test_hearsay_does_not_bring_back_a_left_peer() -> None:
    """An evicted instance comes back only by its own announcement."""
    registry = Registry()
    up(registry, A, AUTH)
    [fact] = registry.left(A, "said goodbye")
    assert (type(fact), fact.reason) == (PeerLeft, "said goodbye")  # type: ignore[union-attr]
    registry.announced(hint(A, "auth"), Source.HEARSAY, 1.0)
    assert A not in registry.peers
    assert registry.ignored["evicted"] == 1
    registry.announced(hint(A, "auth"), Source.CLAIM, 2.0)
    assert state_of(registry, A) is PeerState.UNVERIFIED


def test_a_new_process_at_an_endpoint_ends_the_old_one() -> None:
    """One endpoint is one process: the old instance leaves before the new one joins."""
    registry = Registry()
    up(registry, A, AUTH, endpoint="tcp://127.0.0.1:5000")
    facts = up(registry, B, AUTH, endpoint="tcp://127.0.0.1:5000")
    assert [(type(fact), fact.peer.instance) for fact in facts] == [(PeerLeft, A), (PeerJoined, B)]
    registry.announced(hint(A, "auth"), Source.HEARSAY, 1.0)
    assert A not in registry.peers


def test_our_own_announcement_is_no_peer() -> None:
    """It comes back to us, and is ignored."""
    registry = Registry(own=A)
    assert registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.0) == []
    assert registry.peers == {}
    assert registry.ignored["own"] == 1


def test_number_of_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all places are taken by peers that are up, hints are ignored and counted; a peer that answers is added."""
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    registry = Registry()
    up(registry, A)
    up(registry, B)
    registry.announced(hint(C, "auth"), Source.DISCOVERY, 1.0)
    assert list(registry.peers) == [A, B]
    assert registry.ignored["full"] == 1
    up(registry, C)
    assert list(registry.peers) == [A, B, C]


def test_untried_hints_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """First hints without an answer are dropped, then one in the middle; peers that are up stay."""
    monkeypatch.setattr(module, "MAX_PEERS", 4)
    registry = Registry()
    up(registry, E)
    for now, instance in enumerate((A, B, C)):
        registry.announced(hint(instance, "auth"), Source.DISCOVERY, float(now))
    registry.silent(C, 5.0, "does not answer")
    registry.silent(B, 5.0, "does not answer")
    left = []
    for now, instance in enumerate((D, F, B, C), 6):
        registry.announced(hint(instance, "auth"), Source.DISCOVERY, float(now))
        left.append(list(registry.peers))
    assert left == [[E, A, C, D], [E, A, D, F], [E, A, F, B], [E, A, B, C]]


@pytest.mark.parametrize("fingerprint", ["ours", ""])
def test_flood_of_strangers_displaces_no_peer(monkeypatch: pytest.MonkeyPatch, fingerprint: str) -> None:
    """Earlier peers stay, and new ones during the flood are tried; those with our key's fingerprint stay for good."""
    monkeypatch.setattr(module, "MAX_PEERS", 100)
    registry = Registry(fingerprints=["ours"])
    early, late = (replace(hint(instance, "auth"), fingerprint=fingerprint) for instance in (A, B))
    registry.announced(early, Source.DISCOVERY, 0.0)
    for number in range(5000):
        registry.announced(hint(f"{number:016x}", "auth"), Source.DISCOVERY, 1.0 + number)
        if number == 2500:
            registry.announced(late, Source.DISCOVERY, 1.0 + number)
        if number == 2530 or (number > 2530 and fingerprint):
            assert B in registry.peers
        assert A in registry.peers
    assert len(registry.peers) <= 100


def test_hints_with_many_addresses_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost most, and displace no others."""
    monkeypatch.setattr(module, "MAX_PEERS", 3)
    registry = Registry()
    for instance in (A, B, C):
        registry.announced(hint(instance, "auth"), Source.DISCOVERY, 0.0)
    registry.announced(at_addresses(D), Source.DISCOVERY, 1.0)
    assert set(registry.peers) == {A, B, C}
    assert registry.ignored["full"] == 1


def test_order_of_attempts() -> None:
    """Peers that answered before, then those with our key's fingerprint, with few addresses, with fewer failures."""
    registry = Registry(fingerprints=["ours"])
    up(registry, A)
    registry.lost(A, 1.0, "went away")
    registry.announced(replace(at_addresses(B), fingerprint="ours"), Source.DISCOVERY, 1.0)
    registry.announced(hint(C, "auth"), Source.DISCOVERY, 1.0)
    registry.announced(at_addresses(D), Source.DISCOVERY, 1.0)
    registry.announced(hint(E, "auth"), Source.DISCOVERY, 1.0)
    registry.silent(E, 2.0, "does not answer")
    ranked = sorted((registry.peers[each] for each in (E, D, C, B, A)), key=registry.rank)
    assert [peer.instance for peer in ranked] == [A, B, C, E, D]


def test_in_a_crowd_strangers_are_tried_less_often() -> None:
    """In total they cost as much as a few; peers that answered before are tried as usual."""
    registry = Registry()
    up(registry, A)
    registry.lost(A, 1.0, "went away")
    for number in range(2 * module.CROWD):
        registry.announced(hint(f"{number:016x}", "auth"), Source.DISCOVERY, 0.0)
    registry.silent(f"{0:016x}", 1.0, "does not answer")
    assert registry.peers[A].retry_at == 1.0 + retry_delay(1)
    assert registry.peers[f"{0:016x}"].retry_at >= 1.0 + 2 * retry_delay(1)


def test_in_a_crowd_many_addresses_are_tried_even_less_often() -> None:
    """Each address costs an attempt. With few peers it makes no difference."""
    registry = Registry()
    registry.announced(at_addresses(A), Source.DISCOVERY, 0.0)
    registry.silent(A, 1.0, "does not answer")
    many = len(registry.peers[A].announcement.addresses)
    assert registry.peers[A].retry_at == 1.0 + retry_delay(1)
    for number in range(2 * module.CROWD - 1):
        registry.announced(hint(f"{number:016x}", "auth"), Source.DISCOVERY, 0.0)
    registry.silent(A, 2.0, "does not answer")
    assert registry.peers[A].retry_at == 2.0 + retry_delay(2) * 2 * many / module.USUAL_ADDRESSES


def test_refusing_peers_make_room_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many strangers with another key displace no peer that may still answer."""
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    registry = Registry()
    for now, instance in enumerate((A, B)):
        registry.announced(hint(instance, "auth"), Source.DISCOVERY, float(now))
    registry.silent(A, 5.0, "does not answer")
    registry.denied(B, 5.0, "has another key")
    registry.announced(hint(C, "auth"), Source.DISCOVERY, 6.0)
    assert list(registry.peers) == [A, C]


def test_peer_that_is_not_up_has_a_problem() -> None:
    """The result of the latest attempt; a peer that is up has none."""
    registry = Registry()
    registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.0)
    assert str(registry.peers[A]).endswith("(unverified)")
    registry.denied(A, 1.0, "has another key")
    assert str(registry.peers[A]).endswith("(refused: has another key)")
    up(registry, A, AUTH)
    assert str(registry.peers[A]).endswith("(up)")


def test_a_peer_that_refuses_us_may_be_withdrawn() -> None:
    """It is forgotten like any other hint."""
    registry = Registry()
    bring(registry, PeerState.REFUSED)
    registry.withdrawn(A)
    assert registry.peers == {}


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest evicted instance is forgotten first."""
    monkeypatch.setattr(module, "TOMBSTONES", 2)
    registry = Registry()
    for instance in (A, B, C):
        up(registry, instance)
        registry.left(instance, "said goodbye")
    for instance in (A, B, C):
        registry.announced(hint(instance), Source.HEARSAY, 1.0)
    assert list(registry.peers) == [A]


def test_goodbyes_differ_from_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while: a limited number is remembered."""
    monkeypatch.setattr(module, "MAX_DEPARTED", 1)
    registry = Registry(OWN)
    for instance in (A, B, C):
        up(registry, instance)
    registry.left(C, "refuses connections")
    assert registry.snapshot().departed == frozenset()
    for instance in (A, B):
        registry.drains(instance, 1.0)
        registry.left(instance, "said goodbye")
        assert registry.snapshot().departed == {instance}


def test_ghosts_are_forgotten() -> None:
    """Peers without news for longer than any cache keeps a record are forgotten; peers that are up are not."""
    registry = Registry()
    registry.announced(hint(A, "auth"), Source.DISCOVERY, 0.0)
    up(registry, B, AUTH)
    registry.forget_silent(module.FORGET_AFTER)
    assert set(registry.peers) == {A, B}
    registry.forget_silent(module.FORGET_AFTER + 1.0)
    assert set(registry.peers) == {B}


@pytest.mark.parametrize("do", ["lost", "silent", "denied", "drains", "left", "withdrawn", "reported_lost"])
def test_inputs_about_unknown_peers_are_ignored(do: str) -> None:
    """Nothing is recorded or reported."""
    registry = Registry()
    arguments = {
        "lost": (0.0, "x"),
        "silent": (0.0, "x"),
        "denied": (0.0, "x"),
        "drains": (0.0,),
        "left": ("x",),
        "withdrawn": (),
        "reported_lost": (),
    }
    assert getattr(registry, do)(A, *arguments[do]) == []
    assert registry.peers == {}


def test_advertised_apis_may_be_unknown() -> None:
    """A peer whose API names did not fit into its announcement may advertise any API."""
    registry = Registry()
    registry.announced(announced(A, apis=None), Source.DISCOVERY, 0.0)
    up(registry, B, AUTH)
    assert registry.peers[A].advertises("auth") is None
    assert registry.peers[B].advertises("auth") is True
    assert registry.peers[B].advertises("shop") is False
    assert str(registry.peers[B]) == "s bbbb… on host h (up)"
