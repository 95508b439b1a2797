"""Messages of the peers that a node is connected to, and the ends of their connections. Without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.adapters.zmq.addressing import TcpAddressing
from lightbus.core.peers import PeerState
from lightbus.core.registry import Registry, Source
from lightbus.membership.context import Identity
from lightbus.membership.own_announcement import OwnAnnouncement
from lightbus.membership.peer_changes import PeerChanges
from lightbus.membership.peer_links import PeerLinks
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import Drain, Goodbye, Peers, Welcome

OWN, OTHER, THIRD = "0" * 16, "a" * 16, "b" * 16


class FakeLink:
    """A connection that records what happens to it."""

    def __init__(self, instance: str, *, introduced: bool = True) -> None:
        self.instance = instance
        self.endpoint = "tcp://10.0.0.7:7000"
        self.introduced = introduced
        self.happened: list[str] = []

    def send_hello(self) -> None:
        self.happened.append("hello")

    def drained(self) -> None:
        self.happened.append("drained")

    def close(self, goodbye: str = "") -> None:
        self.happened.append(f"goodbye of {goodbye[0]}" if goodbye else "closed")

    def abandon(self) -> None:
        self.happened.append("abandoned")


class FakeDealer:
    """A connection that is never established."""

    def send(self, frame: bytes) -> bool:
        return False

    def send_later(self, frame: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    abandon = close


class FakeSecurity:
    """Security that admits every peer."""

    fingerprints = ("",)
    refusal = ""


class FakeTransport:
    """A transport whose connections are never established."""

    security = FakeSecurity()

    def dealer(self, endpoint: str, on_message: Any, **options: Any) -> FakeDealer:
        return FakeDealer()


class Place:
    """The links of a node, their collaborators, and the channels that may still need a peer."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.may_go_on = asyncio.Event()
        self.registry = Registry(own=OWN)
        self.own = OwnAnnouncement(Identity(bus="b", service="s", process="p", instance=OWN, host="h"), 2**20)
        self.changes = PeerChanges(self.registry, on_snapshot=lambda snapshot, left: None, wake=lambda: None)
        transport: Any = FakeTransport()
        self.peers = PeerLinks(self, transport, TcpAddressing([]), self.registry, self.changes, self.own)

    async def wait_until_no_new_requests(self, instance: str) -> None:
        await self.may_go_on.wait()

    async def wait_until_answered(self, instance: str) -> None:
        await self.may_go_on.wait()

    def establish(self, instance: str = OTHER, *, draining: bool = False, introduced: bool = True) -> Any:
        """Let a peer answer HELLO on a new link, and return the link."""
        link: Any = FakeLink(instance, introduced=introduced)
        made = announcement(instance)
        self.peers.on_established(link, made, Welcome(made.to_wire(), "", 0.0, draining))
        return link

    def state(self, instance: str = OTHER) -> PeerState:
        return self.registry.peers[instance].state


def announcement(instance: str, bus: str = "b") -> Announcement:
    return Announcement(
        bus=bus, instance=instance, service="auth", process="p", host="far", api_names=("auth",),
        addresses=("10.0.0.7",), rpc_port=7000, event_port=7001,
    )  # fmt: skip


def run(test: Callable[[Place], Awaitable[None]]) -> None:
    async def main() -> None:
        place = Place()
        await test(place)
        place.peers.close()
        place.peers.dialer.close()
        place.changes.stop()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_peer_that_answers_is_up() -> None:
    """Not before it answers; a second link to it is closed, and so is one to ourselves."""

    async def test(place: Place) -> None:
        first, second, ours = place.establish(), place.establish(), place.establish(OWN)
        assert (place.state(), place.peers.links) == (PeerState.UP, {OTHER: first})
        assert (first.happened, second.happened, ours.happened) == ([], ["closed"], ["closed"])
        [(verified, age)] = place.peers.verified()
        assert (verified.instance, age >= 0) == (OTHER, True)

    run(test)


@pytest.mark.parametrize(
    ("is_public", "introduced", "expected"), [(True, False, ["hello"]), (True, True, []), (False, False, [])]
)
def test_a_worker_sends_hello_again_when_it_is_public(is_public: bool, introduced: bool, expected: list[str]) -> None:
    """Its first HELLO was sent before there was anything to announce."""

    async def test(place: Place) -> None:
        if is_public:
            place.own.publish()
        assert place.establish(introduced=introduced).happened == expected

    run(test)


def test_a_draining_peer_gets_no_new_requests() -> None:
    """That is confirmed once no channel sends to it any more."""

    async def test(place: Place) -> None:
        link = place.establish()
        place.peers.on_message(link, Drain())
        await asyncio.sleep(0)
        assert (place.state(), link.happened) == (PeerState.DRAINING, [])
        place.may_go_on.set()
        await wait_until_async(lambda: link.happened == ["drained"])

    run(test)


def test_a_peer_that_says_goodbye_is_disconnected_in_order() -> None:
    """Replies that are still to arrive from it are waited for."""

    async def test(place: Place) -> None:
        link = place.establish()
        place.peers.on_message(link, Goodbye(OTHER))
        await asyncio.sleep(0)
        assert place.peers.links == {OTHER: link}
        place.may_go_on.set()
        await wait_until_async(lambda: not place.peers.links)
        assert link.happened == ["goodbye of 0"]
        assert OTHER not in place.registry.snapshot().peers

    run(test)


@pytest.mark.parametrize("drains", [False, True])
def test_a_link_that_ends(drains: bool) -> None:
    """The peer is lost, and dialed again; or it has left, if it said goodbye. The end of another link has no effect."""

    async def test(place: Place) -> None:
        link = place.establish()
        if drains:
            place.peers.on_message(link, Drain())
        other: Any = FakeLink(OTHER)
        place.peers.on_closed(other, "went away", refused=False)
        assert place.peers.links == {OTHER: link}
        place.peers.on_closed(link, "went away", refused=False)
        assert place.peers.links == {}
        known = place.registry.peers.get(OTHER)
        assert (known is not None and known.state is PeerState.SUSPECT) is not drains

    run(test)


def test_announcements_by_others_are_considered() -> None:
    """Those of reachable peers of the same bus; invalid ones are ignored."""

    async def test(place: Place) -> None:
        link = place.establish()
        told = [
            [announcement(THIRD).to_wire(), 0.5],
            [announcement("c" * 16, bus="other").to_wire(), 0.5],
            ["nonsense"],
            [{"nonsense": 1}, 0.5],
        ]
        place.peers.on_message(link, Peers(told, []))
        assert set(place.registry.peers) >= {OTHER, THIRD}
        assert "c" * 16 not in place.registry.peers
        assert place.registry.peers[THIRD].source is Source.HEARSAY

    run(test)


def test_announcements_of_verified_peers_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a hundred peers reports all others: a peer that is up announces itself; others are decoded once."""

    async def test(place: Place) -> None:
        link = place.establish()
        of_other, of_third = announcement(OTHER), announcement(THIRD)
        place.peers.on_message(link, Peers([[of_third.to_wire(), 0.5]], []))
        first = place.peers.announcement_of(THIRD)
        assert (first, place.peers.announcement_of("c" * 16)) == (of_third, None)
        read: list[object] = []
        checked = Announcement.__post_init__
        monkeypatch.setattr(Announcement, "__post_init__", lambda self: (read.append(self), checked(self))[1])
        place.peers.on_message(link, Peers([[each.to_wire(), 0.5] for each in (of_other, of_third)] * 3, []))
        assert (read, place.registry.peers[THIRD].announcement is first) == ([], True)
        lie = {**of_other.to_wire(), "svc": "lie"}
        news = {**of_third.to_wire(), "svc": "news"}
        place.peers.on_message(link, Peers([[lie, 0.5], [news, 0.5], [{**news, "svc": ""}, 0.5]], []))
        assert place.registry.peers[OTHER].announcement.service == "auth"
        assert place.registry.peers[THIRD].announcement.service == "news"

    run(test)


def test_all_links_are_closed_at_the_end() -> None:
    """With a goodbye; on a closed loop, without one."""

    async def test(place: Place) -> None:
        links = [place.establish(each) for each in (OTHER, THIRD)]
        place.peers.send_hello()
        place.peers.close()
        assert [link.happened for link in links] == [["hello", "goodbye of 0"]] * 2
        left = place.establish()
        place.peers.abandon()
        assert (left.happened, place.peers.links) == (["abandoned"], {})

    run(test)
