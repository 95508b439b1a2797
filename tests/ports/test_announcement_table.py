"""The announcements that a discovery has received and reported."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from helpers.discovering import announcement
from lightbus.ports.announcement_table import AnnouncementTable
from lightbus.wire.announcement import Announcement


def open_table(max_peers: int = 10) -> tuple[AnnouncementTable, list[Announcement], list[str]]:
    """Return a table, and what it tells."""
    found: list[Announcement] = []
    lost: list[str] = []
    table = AnnouncementTable(max_peers)
    table.open(found.append, lost.append)
    return table, found, lost


def test_changes_are_reported_and_repetitions_are_not() -> None:
    """A peer is reported once, and again when its announcement has changed, or after `forget`."""
    table, found, _ = open_table()
    before = announcement("demo")
    after = replace(before, api_names=("auth", "customers"))
    for heard in (before, before, after, after):
        table.heard(heard)
    assert found == [before, after]
    table.forget(before.instance)
    table.heard(after)
    assert found == [before, after, after]


def test_only_reported_peers_are_lost() -> None:
    """A goodbye is reported once, and not of an unknown peer, or of ourselves."""
    table, found, lost = open_table()
    peer, own = announcement("demo"), announcement("demo")
    table.own = own.instance
    for heard in (peer, own):
        table.heard(heard)
    for gone in (peer, peer, own, announcement("demo")):
        table.gone(gone.instance)
    assert (found, lost) == ([peer], [peer.instance])
    assert table.ignored == {"own": 1}


def test_oldest_peer_is_forgotten_for_a_new_one(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound the oldest is forgotten, counted, and a warning is logged."""

    async def scenario() -> None:
        table, found, lost = open_table(max_peers=2)
        peers = [announcement("demo") for _ in range(3)]
        for peer in peers:
            table.heard(peer)
        table.gone(peers[0].instance)
        assert (found, lost) == (peers, [])
        assert table.ignored == {"too many peers": 1}

    asyncio.run(scenario())
    assert "2 newer peers are announced" in caplog.text


def test_closed_table_reports_nothing() -> None:
    """After `close` no callback is called."""
    table, found, lost = open_table()
    peer = announcement("demo")
    table.heard(peer)
    table.close()
    table.heard(announcement("demo"))
    table.gone(peer.instance)
    assert (found, lost) == ([peer], [])


def test_flood_of_useless_announcements_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The first is logged, and others after pauses that double; all are counted."""

    async def main(now: list[float]) -> AnnouncementTable:
        table = AnnouncementTable()
        asyncio.get_running_loop().time = lambda: now[0]  # type: ignore[method-assign]
        for number in range(3600):
            table.ignore("malformed", f"source {number}", "it is too long")
            now[0] += 1.0
        return table

    table = asyncio.run(main([1000.0]))
    assert table.ignored["malformed"] == 3600
    assert 5 < len(caplog.records) < 15
