"""`lightbus peers`, as a process, against real workers."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import lightbus
from helpers import wait_until
from helpers.scripted_bus import peer
from lightbus import LightbusTimeout
from lightbus.cli.commands.peers import COLUMNS, _show, query_peers
from lightbus.cli.support.connection import Connection, UnansweredPeers
from lightbus.cli.support.output import Output
from lightbus.config.keys import BusKey
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.engine.binding import Binding
from lightbus.wire.announcement import Announcement

if TYPE_CHECKING:
    from ..conftest import Commands


def test_peers_are_listed_with_round_trip_time(commands: Commands) -> None:
    """
    Both forms show who is there, since when, with what, how quickly it answers, and that it is up.

    On 80 columns no line is broken: what matters least is left out, and a note says so.
    """
    auth, _ = commands.services()
    told = {each["service"]: each for each in commands.json("peers")}
    assert [*told] == ["auth", "shop"]
    assert (told["auth"]["pid"], told["auth"]["host"], told["auth"]["state"]) == (auth.pid, socket.gethostname(), "up")
    assert (told["auth"]["apis"], told["shop"]["listeners"]) == (["auth"], ["greeter: auth.user_registered"])
    assert 0 < told["auth"]["rtt"] < 5
    assert time.time() - 60 < told["auth"]["started_at"] <= time.time()
    assert (told["auth"]["running"], told["auth"]["queued"], told["auth"]["concurrency"]) == (0, 0, 100)

    head, *rows = commands.text("peers").splitlines()
    assert head.split("  ")[0] == "SERVICE"
    assert [row.split()[0] for row in rows] == ["auth", "shop"]
    assert all(row.endswith("up") for row in rows)
    assert told["auth"]["endpoint"] in rows[0]

    narrow = commands.run("peers", env={"COLUMNS": "80"})
    assert [len(line) <= 80 for line in narrow.stdout.splitlines()] == [True] * 3
    assert "Not shown, for lack of width: ENDPOINT" in narrow.stderr
    assert "\x1b" not in narrow.output


def test_empty_bus_says_where_it_looked(commands: Commands) -> None:
    """The error has the bus, where it looked, and a hint; standard output is empty."""
    process = commands.run("peers", "--wait", "0.3", "--bus-name", "empty", code=3)
    assert process.stdout == ""
    assert re.search(r"No peer is on the bus 'empty': looked for 0\.3 s \(bus 'empty', sockets in /", process.stderr)
    assert "as the same user" in process.stderr
    assert "lightbus doctor" in process.stderr

    key = {"LIGHTBUS_BUS_KEY": BusKey.generate().text, "LIGHTBUS_INTERFACES": "127.0.0.1"}
    process = commands.run("peers", "--wait", "0.1", "--bus-name", "empty", code=3, env=key)
    assert "with the same key (lightbus keys show)" in process.stderr


@pytest.mark.parametrize(
    ("known", "answers", "state"),
    [
        (PeerState.UP, True, "up"),
        (PeerState.UP, False, "suspect"),
        (PeerState.SUSPECT, True, "suspect"),
        (PeerState.QUARANTINED, True, "unverified"),
        (PeerState.UNVERIFIED, True, "unverified"),
        (PeerState.DRAINING, True, "draining"),
    ],
)
def test_peer_is_up_only_if_it_answered_a_ping(known: PeerState, answers: bool, state: str) -> None:
    """A peer that was announced, and has not just answered a ping, is not shown as up."""

    class Bus:
        async def ask(self, peer: Peer, procedure: str) -> float:
            if not answers:
                raise LightbusTimeout("no answer")
            return 0.0

        async def ask_or_empty(self, peer: Peer, procedure: str) -> dict[str, Any]:
            return {}

    announcement = Announcement(bus="b", instance="0" * 16, service="auth", process="one", host="h", apis=())
    peer = Peer(announcement=announcement, state=known, source=Source.DISCOVERY, changed_at=0.0)
    [report] = asyncio.run(query_peers(cast("Connection", Bus()), [peer]))
    assert report.state == state
    assert (report.rtt is not None) == (state == "up")
    assert len(report.row()) == len(COLUMNS)


def test_info_of_a_peer_that_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is known of it, claims nothing else, and has the exit code for no answer."""
    hung = peer(state=PeerState.UP)

    class Hung(Connection):
        def __init__(self) -> None:
            self.output = Output()
            self.unanswered = UnansweredPeers()

        async def named(self, name: str, *, among: Any = None) -> list[Peer]:
            return [hung]

        async def ask(self, peer: Peer, procedure: str, *, timeout: float | None = None, **kwargs: Any) -> Any:
            raise LightbusTimeout("no answer")

    assert asyncio.run(_show(Hung(), "auth")) == 3
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip() != "apis")
    assert told.keys() == {"peer", "instance", "host", "endpoint", "state", "problems"}
    assert (told["host"], told["state"], told["problems"]) == ("h", "suspect", "not known: it does not answer")


def test_info_shows_statistics_of_a_peer(commands: Commands) -> None:
    """`peers info` has the statistics, by service or instance; the error for an unknown name lists the services."""
    commands.services()
    commands.run("call", "shop.orders.place", "username=admin")
    commands.run("fire", "auth.user_registered", "username=sally")
    [auth] = commands.json("peers", "info", "auth")
    [check] = auth["stats"]["procedures"]
    assert (check["procedure"], check["calls"], check["callers"]) == ("check_password", 1, {"shop": 1})
    assert auth["health"] == {"healthy": True, "problems": [], "losses": [], "refused": []}

    def handled() -> bool:
        [shop] = commands.json("peers", "info", "shop")
        return bool(shop["stats"]["listeners"][0]["handled"] == {"user_registered": 1})

    wait_until(handled, 10)
    assert "There are: auth, shop" in commands.run("peers", "info", "nix", code=3).stderr
    text = commands.text("peers", "info", auth["instance"][:6])
    assert re.search(r"^auth\.check_password +1 +0 .* shop \(1\)$", text, re.MULTILINE)
    assert re.search(r"^auth\.user_registered +1$", text, re.MULTILINE)


def test_what_a_worker_turned_away(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """`peers info` shows refused connections, dropped answers, and who is connected without being a worker."""
    monkeypatch.setattr(Binding, "refused_connections", {"no_key": 2, "another_key": 1})
    monkeypatch.setattr(Binding, "dropped", 3)
    bus = lightbus.create({"security": {"mode": "host"}}, service_name="till")
    bus.client.start_in_background()
    try:
        text = commands.text("peers", "info", "till")
    finally:
        bus.client.close()
    assert "refused    connections: another_key (1), no_key (2)\n" in text
    assert "dropped    3 answers: who had asked was gone, or did not read\n" in text
    assert "clients    lightbus-cli (1)\n" in text


def test_columns_order_and_forms(commands: Commands, tmp_path: Path) -> None:
    """A list shows the columns that are named, sorted, in another form, and again and again until Ctrl-C."""
    commands.services()
    text = commands.text("peers", "--columns", "service,state", "--sort", "-service")
    assert text.split() == ["SERVICE", "STATE", "shop", "up", "auth", "up"]
    table = commands.run("peers", "-o", "csv", "--columns", "service,apis").stdout
    assert table == 'service,apis\nauth,"[""auth""]"\nshop,"[""shop.orders""]"\n'
    assert "no column 'LAG'" in commands.run("peers", "--sort", "LAG", code=2).stderr
    with commands.on_terminal(80, "peers", "--watch", "--every", "0.2") as terminal:
        frame = terminal.wait_for(r"^shop +\S+ .* up$")
        assert any("every 0.2 s; Ctrl-C ends it." in line for line in frame)
        assert [line for line in frame if len(line) > 80] == []
        terminal.interrupt()
        assert terminal.wait() == 0
