"""`lightbus ping`, as a process, against real workers."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from helpers.scripted_bus import ScriptedBus, peer
from lightbus.cli.commands.ping import Pinged, _ping
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.exceptions import LightbusTimeout, NotReachable
from lightbus.wire.announcement import Announcement

if TYPE_CHECKING:
    from ..conftest import Commands


def test_each_reply_is_shown_and_counted(commands: Commands) -> None:
    """Each answer is shown, and the statistics at the end, for a peer, for an API and for all peers."""
    commands.services()
    told = commands.json("ping", "auth", "-c", "2", "-i", "0")
    assert [(each["type"], each["service"]) for each in told] == [("ping", "auth")] * 2 + [("statistics", "auth")]
    assert (told[-1]["sent"], told[-1]["received"]) == (2, 2)
    assert 0 < told[-1]["min"] <= told[-1]["avg"] <= told[-1]["max"]
    text = commands.text("ping", "shop.orders", "-c", "1")
    assert re.search(r"^shop \S+: 1  [\d.]+ [mu]s$", text, re.MULTILINE)
    assert re.search(r"^PEER +SENT +RECEIVED +MIN", text, re.MULTILINE)
    assert {each["service"] for each in commands.json("ping", "-c", "1")} == {"auth", "shop"}
    assert "neither a live peer nor an API" in commands.run("ping", "nix", "-c", "1", code=3).stderr


def test_ctrl_c_shows_the_statistics(commands: Commands) -> None:
    """Ctrl-C ends it quietly, with the statistics and exit code 0."""
    commands.services()
    process = commands.start("ping", "auth", "-i", "0.05")
    process.wait_for_line(r"^auth \S+: 2 ")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert "RECEIVED" in process.stdout
    assert process.stderr == ""


def test_lost_pings_count_as_sent() -> None:
    """Unanswered pings count as sent; without any answer there are no times."""
    announcement = Announcement(bus="b", instance="0" * 16, service="auth", process="one", host="h", apis=())
    peer = Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0)
    told = Pinged(peer=peer, times=[0.1, None, 0.3]).statistics()
    assert told == {"sent": 3, "received": 2, "min": 0.1, "avg": 0.2, "max": 0.3, "stddev": pytest.approx(0.1)}
    nothing = Pinged(peer=peer, times=[None]).statistics()
    assert nothing == {"sent": 1, "received": 0, "min": None, "avg": None, "max": None, "stddev": None}


def test_nobody_to_ping_is_an_error() -> None:
    """Peers that are announced and never answered are not pinged, and without others there is nothing to wait for."""
    bus: Any = ScriptedBus({})
    bus.where, bus.peers = "on this host", [peer(state=PeerState.QUARANTINED)]
    with pytest.raises(
        NotReachable, match=r"No peer answers \(on this host\)\. Announced are: auth 0000. on host h\. .*doctor"
    ):
        asyncio.run(_ping(bus, None, None, 1.0, 1.0))


class SilentBus(ScriptedBus):
    """Its peers answer nothing."""

    def __init__(self, peers: int) -> None:
        super().__init__()
        self.peers = [peer(instance=f"{number:016x}") for number in range(peers)]
        self.as_json, self.records = True, []
        self.record = self.records.append

    async def ask_all(self, peers: Any, procedure: str) -> None:
        self.records.append({"type": procedure, "asked": len(peers)})

    async def ask(self, peer: Any, procedure: str, **question: Any) -> Any:
        raise LightbusTimeout("It does not answer.")


def test_peers_that_never_answer_are_asked_together() -> None:
    """Those that do not answer cost the time of one, and make the exit code 4."""
    bus: Any = SilentBus(3)
    assert asyncio.run(_ping(bus, None, 1, 0.0, 1.0)) == 4
    assert bus.records[0] == {"type": "info", "asked": 3}
    assert [each["sent"] for each in bus.records if each["type"] == "statistics"] == [1] * 3
