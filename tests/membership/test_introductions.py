"""Introductions to a worker: answered, refused, bounded, and with news of other peers."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lightbus.membership import connected
from lightbus.membership import introductions as module
from lightbus.membership.connected import TELL_AGAIN_AFTER
from lightbus.membership.context import Identity
from lightbus.membership.introductions import Introductions, NodeView
from lightbus.wire import envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo
from lightbus.wire.envelope import AnyMessage, Drain, Error, Goodbye, Hello, Peers, Welcome

OWN, OTHER, THIRD = ("0" * 16, "a" * 16, "c" * 16)
HELLO = Hello("b", OWN, OTHER, "s", "p", "same", None)


class Place:
    """A worker without sockets, to which connections send HELLO."""

    def __init__(self) -> None:
        self.said = announcement(OWN)
        self.known: list[tuple[Announcement, float]] = []
        self.claims: list[Announcement] = []
        self.sent: dict[bytes, list[AnyMessage]] = {}
        self.gone: set[bytes] = set()
        view = NodeView(
            announcement=lambda: self.said,
            peers_digest=lambda: "same",
            verified=lambda: self.known,
            known=lambda instance: next((each for each, _ in self.known if each.instance == instance), None),
            claimed=self.claims.append,
        )
        identity = Identity(bus="b", service="shop", process="p", instance=OWN)
        self.introductions = Introductions(identity, view, self._send)

    def hello(self, hello: Hello = HELLO, *, routing_id: bytes = b"1") -> list[AnyMessage]:
        """Send HELLO over a connection; return the answers."""
        self.sent[routing_id] = []
        self.introductions.on_hello(routing_id, hello)
        return self.sent[routing_id]

    def _send(self, routing_id: bytes, frame: bytes) -> bool:
        if routing_id not in self.gone:
            self.sent.setdefault(routing_id, []).append(envelope.decode(frame)[1])
        return routing_id not in self.gone


@pytest.fixture
def place() -> Place:
    """Return a place for introductions."""
    return Place()


def announcement(instance: str) -> Announcement:
    """Return the announcement of a peer."""
    return Announcement(bus="b", instance=instance, service="shop", process="p", host="h", apis=())


def test_hello_is_answered(place: Place) -> None:
    """The answer contains our announcement, and our peers if the sender knows others; a repetition is no news."""
    place.known = [(announcement(OTHER), 1.5)]
    [welcome] = place.hello()
    assert isinstance(welcome, Welcome)
    assert Announcement.from_wire(welcome.announcement) == place.said
    assert (welcome.peers_digest, welcome.draining) == ("same", False)
    assert abs(welcome.clock - time.time()) < 5
    _, peers = place.hello(HELLO._replace(peers_digest="other", target=""))
    assert peers == Peers([[announcement(OTHER).to_wire(), 1.5]], [])
    assert place.introductions.counts["hellos"] == len(place.introductions.engines) == 1


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (HELLO._replace(bus="x"), "this is the bus 'b', not 'x'."),
        (HELLO._replace(target=OTHER), f"this is the instance {OWN}, not {OTHER}."),
    ],
    ids=["bus", "instance"],
)
def test_hello_is_refused(place: Place, hello: Hello, reason: str) -> None:
    """A sender that wants another bus, or another instance, gets our announcement, and is not added."""
    assert place.hello(hello) == [Error("peer_refused", reason, False, {})]
    assert (place.introductions.counts["refused_hellos"], len(place.introductions.engines)) == (1, 0)


def test_connections_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of connected processes is limited; existing ones stay connected."""
    monkeypatch.setattr(module, "MAX_ENGINES", 1)
    place.hello()
    [error] = place.hello(routing_id=b"2")
    assert isinstance(error, Error)
    assert error.message == "1 processes are connected already."
    assert [type(each) for each in place.hello()] == [Welcome]


def test_a_connection_is_one_process(place: Place) -> None:
    """A connection introduces neither several processes nor other ones: the memory is bounded by the connections."""
    place.hello()
    [error] = place.hello(HELLO._replace(instance=THIRD))
    assert isinstance(error, Error)
    assert error.message == f"the instance {OTHER} has sent HELLO through this connection before."
    assert [type(each) for each in place.hello(HELLO._replace(announcement=announcement(THIRD).to_wire()))] == [Welcome]
    assert (place.claims, len(place.introductions.engines)) == ([], 1)


def test_peers_are_encoded_once_for_all_requests(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they are unchanged, and their ages differ little: a foreign peer may ask as often as it likes."""
    encoded: list[AnyMessage] = []

    def encode(message: AnyMessage) -> bytes:
        encoded.extend([message] if isinstance(message, Peers) else [])
        return envelope.encode(message)

    monkeypatch.setattr(module, "envelope", SimpleNamespace(encode=encode))
    place.known = [(announcement(OTHER), 1.5)]
    asks = HELLO._replace(peers_digest="other")
    told = [place.hello(asks, routing_id=bytes([number]))[1] for number in range(5)]
    assert told == encoded * 5 == [Peers([[announcement(OTHER).to_wire(), 1.5]], [])] * 5
    for known in ([], [(announcement(THIRD), 0.0)], [(replace(announcement(THIRD), service="other"), 0.0)]):
        place.known = known
        assert place.hello(asks, routing_id=f"{known}".encode())[1] == Peers(
            [[each.to_wire(), age] for each, age in known], []
        )
    monkeypatch.setattr(module, "KEPT_FOR", 0.0)
    place.known = [(announcement(THIRD), 1.0)]
    place.hello(asks, routing_id=b"last but one")
    place.known = [(announcement(THIRD), 2.0)]
    assert place.hello(asks, routing_id=b"last")[1] == Peers([[announcement(THIRD).to_wire(), 2.0]], [])


def test_peers_are_sent_again_only_after_a_change(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that keeps knowing other peers is sent ours once, again when either side's have changed, or seldom."""
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))
    place.known = [(announcement(OTHER), 1.5)]

    def is_told(theirs: str, routing_id: bytes = b"1") -> bool:
        now[0] += 5.0
        return len(place.hello(HELLO._replace(peers_digest=theirs), routing_id=routing_id)) == 2

    assert [is_told("other") for _ in range(3)] == [True, False, False]
    assert is_told("other", b"2")  # another engine
    assert [is_told("changed"), is_told("changed")] == [True, False]  # it has lost or found a peer
    place.known = [(announcement(OTHER), 1.5), (announcement(THIRD), 0.0)]
    assert [is_told("changed"), is_told("changed")] == [True, False]
    now[0] += TELL_AGAIN_AFTER
    assert [is_told("changed"), is_told("changed")] == [True, False]
    place.introductions.engines.forget(b"1")
    assert is_told("changed")
    assert not is_told("same")


def test_peers_that_could_not_be_sent_are_sent_again(place: Place) -> None:
    """A list that a connection did not take does not count as sent."""
    place.known = [(announcement(OTHER), 1.5)]
    asks = HELLO._replace(peers_digest="other")
    place.gone.add(b"1")
    place.hello(asks)
    place.gone.clear()
    assert len(place.hello(asks)) == 2


def test_an_unchanged_announcement_is_not_decoded_again(place: Place) -> None:
    """While the announcement in a process's heartbeats is the same, it is the same object."""
    known = announcement(OTHER)
    place.known = [(known, 0.0)]
    for said in (known, replace(known, service="other")):
        place.hello(HELLO._replace(announcement=said.to_wire()))
    assert place.claims == [known, replace(known, service="other")]
    assert place.claims[0] is known


def large(instance: str, procedures: int) -> Announcement:
    """Return the announcement of a peer with an API of so many procedures; each takes about 20 bytes."""
    api = ApiInfo(name="auth", procedures=tuple(f"procedure_number_{number:03}" for number in range(procedures)))
    return replace(announcement(instance), apis=(api,), api_names=None, digest="")


def test_a_welcome_that_is_too_large_for_its_receiver(place: Place) -> None:
    """It is refused with the setting to raise, instead of a message at which libzmq closes the connection."""
    place.said = large(OWN, 100)
    [error] = place.hello(HELLO._replace(max_message_size=2000))
    assert isinstance(error, Error)
    assert re.search(r"takes 2\d\d\d bytes, and you take messages of 2000: raise network.max_message", error.message)
    assert len(place.introductions.engines) == 0
    for enough in (0, 4000):
        assert [type(each) for each in place.hello(HELLO._replace(max_message_size=enough))] == [Welcome]
    place.said = announcement(OWN)
    assert [type(each) for each in place.hello(HELLO._replace(max_message_size=2000))] == [Welcome]


def test_peers_are_sent_in_parts_that_the_receiver_takes(place: Place) -> None:
    """All of them, except those that it could not connect to."""
    others = [f"{number:016x}" for number in range(1, 30)]
    place.known = [(large(each, 20), 1.5) for each in others]
    place.known.insert(3, (large(THIRD, 200), 1.5))
    small = HELLO._replace(peers_digest="other", max_message_size=2000)
    sizes, told = [], []
    place.hello(small)
    send = place.introductions._send
    place.introductions._send = lambda routing_id, frame: sizes.append(len(frame)) or send(routing_id, frame)
    for each in place.hello(small, routing_id=b"2")[1:]:
        assert isinstance(each, Peers)
        told += [row[0]["id"] for row in each.joined]
    assert told == others
    assert max(sizes) <= 2000
    assert 10 < len(sizes) < 30
    assert [type(each) for each in place.hello(small, routing_id=b"2")] == [Welcome]  # it was told
    [_, whole] = place.hello(HELLO._replace(peers_digest="other"), routing_id=b"3")
    assert isinstance(whole, Peers)
    assert len(whole.joined) == 30


def test_news_that_are_too_large_for_an_engine(place: Place) -> None:
    """Such an engine is not sent them, and stays connected; others are."""
    place.hello(HELLO._replace(max_message_size=1500))
    place.hello(HELLO._replace(instance=THIRD, max_message_size=0), routing_id=b"2")
    place.sent.clear()
    place.introductions.announce_changes([large("b" * 16, 100)], [])
    place.introductions.announce_changes([], ["b" * 16])
    assert [len(place.sent[each]) for each in (b"1", b"2")] == [1, 2]


def test_a_flood_of_hellos_is_not_answered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are not read would be queued here; after a second the process is answered again."""
    monkeypatch.setattr(connected, "MAX_HELLOS", 3)
    answers = [len(place.hello()) for _ in range(50)]
    assert (answers[:3], 0 in answers) == ([1, 1, 1], True)
    assert place.introductions.counts["ignored_hellos"] > 0
    assert not place.introductions.engines.is_flooding(b"1", time.monotonic() + 2.0)


def test_announcements_are_passed_on(place: Place) -> None:
    """The announcement in each HELLO of a process is passed on, if it is valid."""
    for said in (announcement(OTHER).to_wire(), {"nonsense": 1}, announcement(OTHER).to_wire()):
        assert len(place.hello(HELLO._replace(announcement=said))) == 1
    assert place.claims == [announcement(OTHER)] * 2


def test_all_connected_engines_are_notified(place: Place) -> None:
    """Our present announcement, and joined and left peers, are sent to all connected engines, and to no others."""
    place.hello()
    place.hello(HELLO._replace(instance=THIRD), routing_id=b"2")
    place.sent.clear()
    place.gone.add(b"2")
    place.introductions.announce()
    place.introductions.announce_changes([announcement(THIRD)], ["b" * 16])
    welcome, peers = place.sent.pop(b"1")
    assert isinstance(welcome, Welcome)
    assert peers == Peers([[announcement(THIRD).to_wire(), 0.0]], ["b" * 16])
    assert (place.sent, len(place.introductions.engines)) == ({}, 1)


def test_a_process_that_connects_during_draining_is_told(place: Place) -> None:
    """Draining waits for the connected processes; one that connects in the meantime is told at once."""

    async def scenario() -> None:
        place.hello()
        place.sent.clear()
        draining = asyncio.create_task(place.introductions.drain(30))
        await asyncio.sleep(0)
        assert place.sent == {b"1": [Drain()]}
        welcome, drain = place.hello(HELLO._replace(instance=THIRD), routing_id=b"2")
        assert isinstance(welcome, Welcome)
        assert (welcome.draining, drain) == (True, Drain())
        place.introductions.engines.has_drained(b"1")
        assert not draining.done()
        place.introductions.engines.forget(b"2")
        await draining

    asyncio.run(scenario())


def test_goodbye_is_sent_to_all(place: Place) -> None:
    """Stopping ends when all have answered with a goodbye."""

    async def scenario() -> None:
        place.hello()
        place.sent.clear()
        parting = asyncio.create_task(place.introductions.send_goodbye())
        await asyncio.sleep(0)
        assert place.sent == {b"1": [Goodbye(OWN)]}
        place.introductions.engines.forget(b"1")
        await parting
        assert place.introductions.draining

    asyncio.run(scenario())
