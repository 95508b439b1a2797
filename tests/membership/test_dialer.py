"""Which peers to dial, when and how often."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.addressing import HostAddressing, TcpAddressing
from lightbus.core.registry import Peer, Registry, Source, retry_delay
from lightbus.membership import dialer as module
from lightbus.membership.dialer import (
    CONFIRM_ATTEMPTS,
    CONFIRM_SHARE,
    EVERYTHING,
    EXCHANGE_PARTNERS,
    FOR_ASKED,
    MAX_ADDRESSES_TRIED,
    MAX_DIALS,
    UNPROVEN_SHARE,
    Dialer,
)
from lightbus.membership.seeds import WARN_AFTER, FixedPeer
from lightbus.ports.transport import MOST_ENDPOINTS
from lightbus.wire.announcement import Announcement

SEED = "tcp://10.0.0.7:7000"
OWN = "127.0.0.1/8"


class FakeDial:
    """One attempt, whose end the test decides."""

    def __init__(
        self,
        user: Any,
        transport: Any,
        endpoints: Sequence[str],
        on_done: Any,
        *,
        target: str = "",
        fingerprint: str = "",
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.target = target
        self.fingerprint = fingerprint
        self.ended = ""
        self.denied = False
        self.is_connected = False
        self._on_done = on_done

    def succeed(self) -> None:
        self._on_done(self, FakeLink(self.target, self.endpoints[0]), "", False)

    def fail(self, reason: str = "does not answer.", *, refused: bool = False) -> None:
        self._on_done(self, None, reason, refused)

    def close(self) -> None:
        self.ended = "close"

    def abandon(self) -> None:
        self.ended = "abandon"


class FakeLink:
    """The link of a successful attempt."""

    def __init__(self, instance: str, endpoint: str) -> None:
        self.instance = instance
        self.endpoint = endpoint


class Place:
    """A dialer, its collaborators, and the attempts that it started."""

    def __init__(self, dials: list[FakeDial]) -> None:
        self.dials = dials
        self.registry = Registry(own=instance(0))
        self.links: dict[str, Any] = {}
        self.wanted: set[str] = set()
        self.failed: list[tuple[str, str, bool]] = []
        self.refusing: list[tuple[str, str]] = []
        self.ended = 0
        self.dialer = self.make()

    def make(
        self,
        seeds: Sequence[str] = (),
        directory: Path | None = None,
        near: bool = False,
        fingerprints: Sequence[str] = ("",),
    ) -> Dialer:
        """Return a dialer in this place."""
        user: Any = self
        transport: Any = None
        tcp = TcpAddressing([OWN.partition("/")[0]] if near else [])
        addressing = tcp if directory is None else HostAddressing(Places.only(directory))
        self.dialer = Dialer(
            user,
            transport,
            addressing,
            self.registry,
            self.links,
            self.wanted,
            seeds=seeds,
            fingerprints=fingerprints,
        )
        return self.dialer

    def unreachable(self, instance: str, reason: str, *, refused: bool = False) -> None:
        self.failed.append((instance, reason, refused))

    def denied(self, instance: str, reason: str) -> None:
        self.refusing.append((instance, reason))

    def attempt_is_over(self) -> None:
        self.ended += 1

    def announce(self, made: Announcement, source: Source = Source.DISCOVERY) -> Peer:
        """Let a peer be announced, and return the registry's change."""
        self.registry.announced(made, source, 0.0)
        return self.registry.peers[made.instance]

    @property
    def targets(self) -> list[str]:
        """The targets of the attempts, in order: instances, or endpoints of fixed peers."""
        return [dial.target or dial.endpoints[0] for dial in self.dials]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock: `now[0]` is the time."""
    time = [100.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return time[0]

    monkeypatch.setattr(module, "time", Clock)
    return time


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> Place:
    """Return a place with fake attempts."""
    dials: list[FakeDial] = []

    def dial(*args: Any, **kwargs: Any) -> FakeDial:
        dials.append(FakeDial(*args, **kwargs))
        return dials[-1]

    monkeypatch.setattr(module, "Dial", dial)
    return Place(dials)


def instance(number: int) -> str:
    """Return an instance id."""
    return f"{number:016x}"


def announcement(number: int, *, apis: tuple[str, ...] | None = ("auth",), port: int = 7001) -> Announcement:
    """Return the announcement of a peer with a TCP port."""
    return Announcement(
        bus="b",
        instance=instance(number),
        service="auth-service",
        process="p",
        host="h",
        addresses=("10.0.0.1",) if port else (),
        rpc_port=port,
        event_port=port and port + 1,
        fingerprint="print",
        api_names=apis,
    )


# --- one peer ---------------------------------------------------------------------------------------


def test_all_addresses_of_a_peer(place: Place) -> None:
    """Each is tried, those in our own networks first, IPv6 in brackets, with the announced fingerprint."""
    made = replace(announcement(1), addresses=("10.0.0.1", "fe80::1", "127.0.0.5"))
    place.make(near=True).dial(place.announce(made))
    (dial,) = place.dials
    assert dial.endpoints == ("tcp://127.0.0.5:7001", "tcp://10.0.0.1:7001", "tcp://[fe80::1]:7001")
    assert (dial.target, dial.fingerprint) == (instance(1), "print")


def test_some_addresses_of_a_peer_at_a_time(place: Place) -> None:
    """Of many addresses only some are tried at once, and the next ones with the next attempt."""
    made = replace(announcement(1), addresses=tuple(f"10.0.0.{number}" for number in range(1, 7)))
    place.announce(made)
    for _ in range(3):
        place.dialer.dial(place.registry.peers[instance(1)])
        place.dials[-1].fail()
        place.registry.silent(instance(1), 0.0, "does not answer")
    tried = [[endpoint.removesuffix(":7001").rpartition(".")[2] for endpoint in dial.endpoints] for dial in place.dials]
    assert tried == [list("1234"), list("5612"), list("3456")]


def test_addresses_tried_are_bounded(place: Place) -> None:
    """However many addresses foreign peers announce, most of the room is kept for others; half during a lookup."""
    many = tuple(f"10.0.0.{number}" for number in range(1, 17))
    place.wanted.add("auth")
    peers = [place.announce(replace(announcement(number), addresses=many)) for number in range(1, 100)]
    place.dialer.dial_due(0.0)
    assert sum(len(dial.endpoints) for dial in place.dials) == MAX_ADDRESSES_TRIED * UNPROVEN_SHARE
    place.dialer.dial_wanted(peers)
    assert sum(len(dial.endpoints) for dial in place.dials) == (MAX_ADDRESSES_TRIED + MOST_ENDPOINTS * FOR_ASKED) // 2
    place.announce(announcement(100))
    place.dialer.consider(instance(100), 0.0)
    assert place.targets[-1] == instance(100)


@pytest.mark.parametrize("fingerprint", ["", "another key"])
def test_peers_without_our_key_are_not_dialed(place: Place, fingerprint: str) -> None:
    """A peer that is announced with another key, or none, is refused without an attempt."""
    place.make(fingerprints=["ours"])
    place.wanted.add("auth")
    place.announce(replace(announcement(1), fingerprint=fingerprint))
    place.announce(replace(announcement(2), fingerprint="ours"))
    place.dialer.dial_due(0.0)
    assert place.targets == [instance(2)]
    [(refused, reason)] = place.refusing
    assert refused == instance(1)
    assert reason == f"is not asked: it has {'the key another key' if fingerprint else 'no key'}, and ours is ours"


def test_the_first_and_the_last_announced_are_tried_first(place: Place) -> None:
    """In a flood of announcements, those before it and the latest are tried first: the real ones are not known."""
    place.wanted.add("auth")
    for number in range(1, 100):
        place.announce(announcement(number))
    place.dialer.dial_due(0.0)
    assert place.targets[:4] == [instance(99), instance(1), instance(98), instance(2)]


def test_no_peer_is_dialed_without_descriptors(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the process has no descriptors left, no new peer is tried; that is logged once, and again after a recovery."""
    place.wanted.add("auth")
    place.announce(announcement(1))
    monkeypatch.setattr(module, "descriptors_left", lambda: 0)
    place.dialer.dial_due(0.0)
    place.dialer.dial_due(0.0)
    assert place.dials == []
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["No new peer is connected"]
    monkeypatch.setattr(module, "descriptors_left", lambda: 1)
    place.dialer.dial_due(0.0)
    assert place.targets == [instance(1)]


def test_a_peer_of_this_host(place: Place, tmp_path: Path) -> None:
    """In mode host the path consists of our own directory and the instance, and of no announced data."""
    (tmp_path / f"{instance(1)}.rpc").touch()
    place.make(directory=tmp_path).dial(place.announce(announcement(1, port=0)))
    assert [dial.endpoints for dial in place.dials] == [(f"ipc://{tmp_path}/{instance(1)}.rpc",)]


def test_peers_that_are_not_dialed(place: Place) -> None:
    """Not ourselves, no connected peer, and no peer that is being dialed."""
    peer, linked = place.announce(announcement(1)), place.announce(announcement(2))
    place.links[instance(2)] = "a link"
    for each in (peer, peer, linked, replace(peer, announcement=announcement(0))):
        place.dialer.dial(each)
    assert place.targets == [instance(1)]


def test_a_failed_attempt_may_be_repeated(place: Place) -> None:
    """The node is told the reason and that the attempt is over, and the peer can be tried again."""
    peer = place.announce(announcement(1))
    place.dialer.dial(peer)
    place.dials[0].fail("does not answer")
    assert (place.failed, place.ended) == ([(instance(1), "does not answer", False)], 1)
    place.dialer.dial(peer)
    assert place.targets == [instance(1)] * 2


def test_a_success_is_reported_by_the_link(place: Place) -> None:
    """The node is told that the attempt is over, and of no failure."""
    place.dialer.dial(place.announce(announcement(1)))
    place.dials[0].succeed()
    assert (place.failed, place.ended) == ([], 1)


@pytest.mark.parametrize(
    ("addresses", "certain"),
    [(("127.0.0.1",), True), (("127.0.0.1", "10.0.0.1"), False), (("10.0.0.1",), False)],
)
def test_the_meaning_of_a_refused_connection(place: Place, addresses: tuple[str, ...], certain: bool) -> None:
    """Only at our own addresses does it prove that no process listens: elsewhere a cable may be unplugged."""
    place.make(near=True).dial(place.announce(replace(announcement(1), addresses=addresses)))
    place.dials[0].fail("is not there", refused=True)
    assert place.failed == [(instance(1), "is not there", certain)]


def test_a_peer_whose_socket_files_are_missing(place: Place, tmp_path: Path) -> None:
    """There is no attempt, and the reason names both directories: the peer may use a directory of its own."""
    dialer = place.make(directory=tmp_path)
    peer = place.announce(replace(announcement(1, port=0), directory="/somewhere/else"))
    dialer.dial(peer)
    assert place.dials == []
    ((failed, reason, refused),) = place.failed
    assert (failed, refused) == (instance(1), False)
    assert "its sockets are in /somewhere/else" in reason
    assert f"nor in {tmp_path}" in reason
    assert "set XDG_RUNTIME_DIR to the same one for both" in dialer.hint(peer)


def test_refused_by_a_file(place: Place, tmp_path: Path) -> None:
    """A socket file without a listener is a certain refusal."""
    (tmp_path / f"{instance(1)}.rpc").touch()
    place.make(directory=tmp_path).dial(place.announce(announcement(1, port=0)))
    place.dials[0].fail("is not there", refused=True)
    assert place.failed == [(instance(1), "is not there", True)]


# --- whoever is due ---------------------------------------------------------------------------------


def test_needed_peers_are_dialed(place: Place) -> None:
    """Peers that advertise an API in use are dialed, and those with unknown APIs; others only to exchange peers."""
    for number in range(EXCHANGE_PARTNERS):
        place.links[instance(100 + number)] = "a link"
    place.wanted.add("auth")
    place.announce(announcement(1, apis=("auth", "shop")))
    place.announce(announcement(2, apis=("shop",)))
    place.announce(announcement(3, apis=None))
    place.dialer.dial_due(0.0)
    assert place.targets == [instance(3), instance(1)]  # the latest first


def test_a_newly_announced_peer(place: Place) -> None:
    """It is dialed at once if it is needed and allowed, and no other peer is considered."""
    place.wanted.add("auth")
    for number in range(EXCHANGE_PARTNERS):
        place.links[instance(100 + number)] = "a link"
    for number, apis in ((1, ("auth",)), (2, ("auth",)), (3, ("shop",))):
        place.announce(announcement(number, apis=apis))
    place.registry.silent(instance(2), 0.0, "does not answer")
    for number in (2, 3, 4):
        place.dialer.consider(instance(number), 0.0)
    assert place.targets == []
    place.dialer.consider(instance(1), 0.0)
    place.dialer.consider(instance(2), retry_delay(1))
    assert place.targets == [instance(1), instance(2)]


def test_some_unused_peers_are_connected_for_exchange(place: Place) -> None:
    """A few peers are connected although none of their APIs is used: attempts count as connections."""
    place.links[instance(100)] = "a link"
    for number in range(1, 6):
        place.announce(announcement(number, apis=("shop",)))
    place.dialer.dial_due(0.0)
    assert len(place.dials) == EXCHANGE_PARTNERS - 1


def test_all_peers_are_dialed(place: Place) -> None:
    """If all peers are wanted, they are dialed whatever they advertise."""
    place.wanted.add(EVERYTHING)
    for number in range(EXCHANGE_PARTNERS):
        place.links[instance(100 + number)] = "a link"
    for number in range(1, 6):
        place.announce(announcement(number, apis=("shop",)))
    place.dialer.dial_due(0.0)
    assert len(place.dials) == 5


def test_a_peer_that_introduced_itself_is_dialed(place: Place) -> None:
    """It relies on us to announce it to others, and we only announce peers that have answered us."""
    for number in range(EXCHANGE_PARTNERS):
        place.links[instance(100 + number)] = "a link"
    place.announce(announcement(1, apis=()), Source.CLAIM)
    place.dialer.dial_due(0.0)
    assert place.targets == [instance(1)]


def test_a_pause_after_a_failure(place: Place) -> None:
    """A peer that did not answer is left alone until its pause is over; those that failed more often come later."""
    place.wanted.add("auth")
    for number in (1, 2):
        place.announce(announcement(number))
    place.registry.silent(instance(1), 0.0, "does not answer")
    place.dialer.dial_due(0.0)
    assert place.targets == [instance(2)]
    place.dials[0].fail()
    place.dialer.dial_due(retry_delay(1))
    assert place.targets == [instance(2), instance(2), instance(1)]


def test_attempts_are_bounded(place: Place) -> None:
    """However many peers are announced, a limited number is tried at a time; each attempt that ends makes room."""
    place.wanted.add("auth")
    for number in range(1, MAX_DIALS + 10):
        place.announce(announcement(number))
    place.dialer.dial_due(0.0)
    assert len(place.dials) == MAX_DIALS
    place.dialer.dial(place.registry.peers[instance(MAX_DIALS + 5)])
    assert len(place.dials) == MAX_DIALS
    place.dials[0].fail()
    place.dialer.dial_due(0.0)
    assert len(place.dials) == MAX_DIALS + 1


def up(place: Place, *numbers: int) -> list[Peer]:
    """Return peers that count as up, and are to be confirmed."""
    peers = [place.announce(announcement(number)) for number in numbers]
    for peer in peers:
        place.registry.answered(peer.announcement, 100.0, endpoint=peer.instance, event_endpoint="")
    place.dialer.confirm(peers)
    return peers


def test_peers_that_count_as_up_are_dialed_until_connected(place: Place) -> None:
    """Peers that count as up are tried as far as there is room, half of it; once connected, not again."""
    peers = up(place, *range(1, MAX_DIALS + 3))
    connected = 0
    for _ in range(3):
        place.dialer.dial_due(0.0)
        assert len(place.dials) - connected <= MAX_DIALS * CONFIRM_SHARE
        for dial in place.dials[connected:]:
            place.links[dial.target] = "a link"
            dial.succeed()
            connected += 1
    place.dialer.dial_due(0.0)
    assert sorted(place.targets) == sorted(peer.instance for peer in peers)


def test_peer_that_counts_as_up_and_is_busy_is_not_lost(place: Place, now: list[float]) -> None:
    """A peer whose handshake succeeds and whose loop is blocked is tried for as long as it takes."""
    up(place, 1)
    for tried in range(1, 10):
        place.dialer.dial_due(now[0])
        assert len(place.dials) == tried
        place.dials[-1].is_connected = True
        place.dials[-1].fail()
    assert place.failed == []


def test_peer_that_counts_as_up_and_accepts_no_connection_is_lost(place: Place, now: list[float]) -> None:
    """A peer that does not even accept a connection is tried as long as one with a connection would be."""
    up(place, 1)
    for connected in (False, True, False, False):  # two in a row
        assert place.failed == []
        place.dialer.dial_due(now[0])
        place.dials[-1].is_connected = connected
        place.dials[-1].fail("does not answer")
    assert place.failed == [(instance(1), "does not answer", False)]
    place.dialer.dial_due(now[0])
    assert len(place.dials) == 4 == 2 + CONFIRM_ATTEMPTS


def test_peer_that_counts_as_up_and_refuses_is_lost_at_once(place: Place, now: list[float]) -> None:
    """A peer at whose address nothing listens, or that has another key, is reported at the first attempt."""
    up(place, 1, 2)
    place.dialer.dial_due(now[0])
    place.dials[0].fail("is not there", refused=True)
    place.dials[1].denied = True
    place.dials[1].fail("has another key")
    assert [failed for failed, *_ in place.failed] == [instance(1)]
    assert place.refusing == [(instance(2), "has another key")]


def test_peer_that_was_lost_meanwhile_is_not_confirmed(place: Place) -> None:
    """A peer that has gone before its turn is not dialed."""
    up(place, 1)
    place.registry.left(instance(1), "said goodbye")
    place.dialer.dial_due(0.0)
    assert place.dials == []


def test_busy_peers_leave_attempts_for_others(place: Place) -> None:
    """However many peers that count as up do not answer, another that is wanted is tried."""
    up(place, *range(1, 2 * MAX_DIALS))
    place.wanted.add("auth")
    place.announce(announcement(1000))
    place.dialer.dial_due(0.0)
    assert place.targets[-1] == instance(1000)


def test_many_others_leave_attempts_for_peers_that_count_as_up(place: Place) -> None:
    """However many peers are announced that do not answer, those that count as up are tried once attempts end."""
    place.wanted.add("auth")
    for number in range(1000, 1100):
        place.announce(announcement(number))
    place.dialer.dial_due(0.0)
    assert len(place.dials) == MAX_DIALS
    up(place, 1)
    others = iter(place.dials[:])
    while instance(1) not in place.targets:
        next(others).fail()
        place.dialer.dial_due(0.0)
    assert len(place.dials) == MAX_DIALS + 1


# --- fixed peers ------------------------------------------------------------------------------------


def seen(*answering: str) -> FixedPeer:
    """Return the state of the fixed peer with this address."""
    return FixedPeer(
        endpoint=SEED,
        is_name=False,
        addresses=(SEED,),
        answering=answering,
        lookups=0,
        failed_lookups=0,
        problem="",
    )


def test_a_fixed_peer_that_answers(place: Place) -> None:
    """It is dialed at its address, without an instance, and not after its answer; again after a loss and a pause."""
    dialer = place.make([SEED])
    assert dialer.has_untried_seed()
    dialer.dial_due(100.0)
    dialer.dial_due(100.0)
    (dial,) = place.dials
    assert dialer.seeds.report() == [seen()]
    assert (dial.endpoints, dial.target) == ((SEED,), "")
    dial.succeed()
    link: Any = FakeLink(instance(1), SEED)
    dialer.linked(link)
    assert (dialer.has_untried_seed(), dialer.seeds.report()) == (False, [seen(SEED)])
    dialer.dial_due(1000.0)
    assert len(place.dials) == 1
    dialer.unlinked(instance(2))
    dialer.unlinked(instance(1))
    dialer.dial_due(100.0)
    assert len(place.dials) == 1
    dialer.dial_due(100.0 + retry_delay(1))
    assert place.targets == [SEED, SEED]


def test_peers_that_are_due_soon(place: Place) -> None:
    """Whether any peer must be dialed until a moment is known: a fixed, a wanted, or one assumed to be up."""
    dialer = place.make([SEED])
    assert dialer.is_due(100.0)
    dialer.dial_due(100.0)
    place.dials[0].succeed()
    link: Any = FakeLink(instance(1), SEED)
    dialer.linked(link)
    assert not dialer.is_due(100.0)
    dialer.unlinked(instance(1))
    assert not dialer.is_due(100.0)
    assert dialer.is_due(100.0 + retry_delay(1))


def test_a_fixed_peer_that_does_not_answer(place: Place, now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """It is dialed again at growing intervals, with one warning, which is not at the first failure."""
    caplog.set_level(logging.DEBUG, "lightbus.dialing")
    dialer = place.make([SEED])
    for failures in range(1, WARN_AFTER + 2):
        dialer.dial_due(now[0])
        assert len(place.dials) == failures
        place.dials[-1].fail("does not answer.")
        now[0] += retry_delay(failures) * 0.9
        dialer.dial_due(now[0])
        assert len(place.dials) == failures
        now[0] += retry_delay(failures) * 0.2
    assert [record.levelname for record in caplog.records] == [*["DEBUG"] * (WARN_AFTER - 1), "WARNING", "DEBUG"]
    assert caplog.records[0].getMessage() == f"The fixed peer {SEED} does not answer; it will be tried again"
    assert place.failed == []
    assert place.ended == WARN_AFTER + 1


def test_a_fixed_peer_that_is_ourselves(place: Place) -> None:
    """A list of all hosts, the same on each, includes us: we are dialed once, and never again."""
    dialer = place.make([SEED])
    dialer.dial_due(100.0)
    place.dials[0].succeed()
    link: Any = FakeLink("", SEED)
    dialer.linked(link, ourselves=True)
    dialer.dial_due(1000.0)
    assert len(place.dials) == 1


@pytest.mark.parametrize("ourselves", [False, True])
def test_a_fixed_peer_on_loopback(place: Place, monkeypatch: pytest.MonkeyPatch, ourselves: bool) -> None:
    """It means this host, whose workers listen at its own addresses: the host's own name may lead to 127.0.1.1."""
    seed, here = "tcp://127.0.1.1:7000", "tcp://10.0.0.1:7000"
    monkeypatch.setattr(TcpAddressing, "addresses", ("10.0.0.1",))
    dialer = place.make([seed, SEED], near=True)
    dialer.dial_due(100.0)
    assert [dial.endpoints for dial in place.dials] == [(seed, here), (SEED,)]
    link: Any = FakeLink("" if ourselves else instance(1), here)
    place.dials[0].succeed()
    dialer.linked(link, ourselves=ourselves)
    dialer.dial_due(1000.0)
    assert len(place.dials) == 2  # it has answered
    assert [each.answering for each in dialer.seeds.report()] == [(seed,), ()]


def test_the_state_of_fixed_peers_in_messages(place: Place) -> None:
    """A message can say how many of them answer; without fixed peers it says nothing."""
    assert place.make().seeds.describe() == ""
    dialer = place.make([SEED, "tcp://10.0.0.8:7000"])
    assert dialer.seeds.describe() == "0 of 2 fixed peers answer"
    link: Any = FakeLink(instance(1), SEED)
    dialer.linked(link)
    assert dialer.seeds.describe() == "1 of 2 fixed peers answer"


# --- whether it is worth waiting --------------------------------------------------------------------


@pytest.mark.parametrize(("apis", "expected"), [(("auth",), True), (("shop",), False), (None, True)])
def test_an_attempt_at_a_peer(place: Place, apis: tuple[str, ...] | None, expected: bool) -> None:
    """While it lasts, it may lead to an API that the peer is announced with, or to any if its APIs are unknown."""
    assert not place.dialer.may_find("auth")
    place.dialer.dial(place.announce(announcement(1, apis=apis)))
    assert place.dialer.may_find("auth") is expected
    place.dials[0].fail()
    assert not place.dialer.may_find("auth")


def test_an_attempt_at_a_fixed_peer(place: Place) -> None:
    """The first attempt may lead to any API; one after a failure is not waited for."""
    dialer = place.make([SEED])
    dialer.dial_due(100.0)
    assert dialer.may_find("auth")
    place.dials[0].fail()
    dialer.dial_due(1000.0)
    assert len(place.dials) == 2
    assert not dialer.may_find("auth")


# --- the end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_stop_ends_all_attempts_and_prevents_others(place: Place, how: str) -> None:
    """All attempts end, and no other begins."""
    dialer = place.make([SEED])
    peer = place.announce(announcement(1))
    dialer.dial(peer)
    getattr(dialer, how)()
    assert [dial.ended for dial in place.dials] == [how]
    dialer.confirm([peer])
    dialer.dial(peer)
    dialer.dial_due(1000.0)
    assert len(place.dials) == 1
    assert not dialer.may_find("auth")
