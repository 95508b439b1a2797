"""`lightbus watch`: the differences between two snapshots, and the command against real workers."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lightbus.cli.commands.watch import changes
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

if TYPE_CHECKING:
    from ..conftest import Commands


def peer(instance: str, *apis: str, version: int = 1, state: PeerState = PeerState.UP) -> Peer:
    """Return a peer that advertises APIs."""
    infos = tuple(ApiInfo(name=name, version=version) for name in apis)
    announcement = Announcement(bus="b", instance=instance * 16, service="auth", process="one", host="h", apis=infos)
    return Peer(announcement=announcement, state=state, source=Source.SEED, changed_at=0.0)


def told(before: list[Peer], now: list[Peer]) -> list[tuple[Any, ...]]:
    """Return the changes between two snapshots."""
    old, new = ({each.instance: each for each in peers} for peers in (before, now))
    fields = [change.fields() for change in changes(old, new)]
    return [
        (each["type"], each["instance"][0] if "instance" in each else each["api"], each["change"]) for each in fields
    ]


A, B = peer("a", "auth"), peer("b", "auth")


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([], [A], [("peer", "a", "up"), ("api", "auth", "added")]),
        ([A], [A, B], [("peer", "b", "up")]),  # the API was there
        ([A, B], [B], [("peer", "a", "gone")]),
        ([A], [], [("peer", "a", "gone"), ("api", "auth", "gone")]),
        ([A], [A], []),
        ([A], [replace(A, retry_at=9.0)], []),
        ([A], [replace(A, state=PeerState.SUSPECT)], [("peer", "a", "suspect"), ("api", "auth", "gone")]),
        ([A], [replace(A, state=PeerState.DRAINING)], [("peer", "a", "draining"), ("api", "auth", "gone")]),
        ([], [replace(A, state=PeerState.UNVERIFIED)], []),  # it was just announced, and is being asked
        ([replace(A, state=PeerState.UNVERIFIED)], [A], [("peer", "a", "up"), ("api", "auth", "added")]),
        ([replace(A, state=PeerState.UNVERIFIED)], [], []),
        ([], [replace(A, state=PeerState.QUARANTINED)], [("peer", "a", "unverified")]),
        ([A], [A, peer("b", "auth", version=2)], [("peer", "b", "up"), ("api", "auth", "changed")]),
        ([A], [peer("a", "auth", "shop")], [("peer", "a", "up"), ("api", "shop", "added")]),
    ],
)
def test_each_change_of_a_peer_is_reported_once(
    before: list[Peer], now: list[Peer], expected: list[tuple[str, ...]]
) -> None:
    """Each change of a peer is shown once; an API appears with its first peer and disappears with its last."""
    assert told(before, now) == expected


def test_watch_begins_with_the_present_peers(commands: Commands) -> None:
    """It shows the present peers, then changes, in both formats; it can start on an empty bus."""
    early = commands.start("watch", "--wait", "0.3")
    early.wait_for_line("No peer is on the bus yet")
    commands.serve("auth").wait_for_line("Ready")
    early.wait_for_line(r"  peer auth .* up, serves auth$")
    early.wait_for_line(r"  api auth added, version 1$")
    early.signal(signal.SIGINT)
    assert early.wait(60) == 0
    begun = commands.json("watch", "--count", "2")
    assert [(each["type"], each["change"], each["initial"]) for each in begun] == [
        ("peer", "up", True), ("api", "added", True),
    ]  # fmt: skip

    watching = commands.start("watch", "--json")
    watching.wait_for_line('"added"')
    shop = commands.serve("shop")
    watching.wait_for_line('"shop.orders", "versions"')
    shop.ask_to_end()
    watching.wait_for_line('"change": "gone", "api": "shop.orders"')
    watching.wait_for_line('"peer", "change": "gone", "service": "shop"')
    watching.signal(signal.SIGTERM)
    assert watching.wait(60) == 0
    seen = [json.loads(line) for line in watching.stdout.splitlines()]
    assert ["service" in each for each in seen] == [each["type"] == "peer" for each in seen]
    of_shop = [each["change"] for each in seen if each.get("service") == "shop"]
    assert (of_shop[0], of_shop[-1]) == ("up", "gone")
