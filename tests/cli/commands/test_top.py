"""`lightbus top`: what is computed from two readings, and the screen, in a terminal of either width."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers import on_terminal
from lightbus.cli.support.loads import COLUMNS, GROUP_COLUMNS, GroupLag, Load, Reading, lags, loads, ordered
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement

if TYPE_CHECKING:
    from ..conftest import Commands


def peer(number: int = 0) -> Peer:
    """Return a peer."""
    announcement = Announcement(bus="b", instance=f"{number:016x}", service="auth", process="one", host="h", apis=())
    return Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0, heard_at=0.0)


def stats(calls: int, errors: int, published: int, handled: int) -> dict[str, Any]:
    """Return what a worker tells."""
    return {
        "uptime": 100.0,
        "running": 3,
        "queued": 7,
        "procedures": [
            {"calls": calls, "errors": errors, "p50": 0.1, "p99": 0.4},
            {"calls": 0, "errors": 0, "p50": 0.2, "p99": 0.3},
        ],
        "events": [{"published": published}],
        "listeners": [{"handled": {"a": handled, "b": 1}, "failed": 0, "waiting": 5}],
    }


def test_rates() -> None:
    """Rates are what was counted between two readings; latency is that of the slowest procedure."""
    before = Reading(peer=peer(), at=10.0, stats=stats(100, 1, 10, 10))
    now = Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 16))
    [load] = loads({peer().instance: before}, [now])
    assert load == Load(
        service="auth", process="one", host="h",
        calls=25.0, errors=1.0, events=5.0, p50=0.1, p99=0.4, running=3, queued=7, lag=5,
    )  # fmt: skip
    assert load.row() == ["auth", "one", "h", "25", "100.0 ms", "400.0 ms", "1", "3", "7", "5", "5"]
    assert len(load.row()) == len(COLUMNS)


def test_newcomer() -> None:
    """A worker that was not there at the last reading has done all since its start; one without statistics nothing."""
    [load] = loads({}, [Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 15))])
    assert (load.calls, load.events) == (1.5, 0.3)
    [unknown] = loads({}, [Reading(peer=peer(), at=12.0, stats={})])
    assert (unknown.calls, unknown.p99, unknown.lag) == (0.0, None, 0)


def test_lag_of_groups() -> None:
    """A group is told once, with what all publishers keep for it; who is furthest behind comes first."""

    def told(name: str, lag: int, *members: str) -> dict[str, Any]:
        return {"api": "auth", "name": name, "lag": lag, "members": {member: [0] for member in members}}

    first, second = lags([[told("mail", 3), told("shop", 4, "a")], [told("shop", 1, "a", "b")]])
    assert first == GroupLag(api="auth", group="shop", members=2, publishers=2, lag=5)
    assert second == GroupLag(api="auth", group="mail", members=0, publishers=1, lag=3)
    assert len(first.row()) == len(GROUP_COLUMNS)
    assert second.row()[-1] == ("3", "red")  # nobody will handle that
    assert first.fields()["type"] == "group"


def test_order() -> None:
    """The greatest comes first, or the service's name."""
    readings = [Reading(peer=peer(n), at=12.0, stats=stats(n, 0, 0, 0)) for n in (1, 3, 2)]
    rows = loads({}, readings)
    assert [row.calls for row in ordered(rows, "calls")] == [0.03, 0.02, 0.01]
    assert len(ordered(rows, "service")) == 3


def test_stream(commands: Commands) -> None:
    """With --json it is a stream, which Ctrl-C ends without a word; without a terminal it says what to use."""
    _, shop = commands.services()
    process = commands.start("top", "--json", "-i", "0.1")
    process.wait_for_line('"service": "shop"')
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert process.stderr == ""
    shop.ask_to_end()
    shop.wait()
    commands.run("fire", "auth.user_registered", "username=ada")
    told = commands.json("top", "-i", "0.1", "--count", "1")
    assert [each["service"] for each in told if each["type"] == "worker"] == ["auth"]
    [group] = [each for each in told if each["type"] == "group"]
    assert (group["group"], group["members"], group["publishers"], group["lag"]) == ("shop-greeter", 0, 1, 1)
    assert "Use --json" in commands.run("top", code=2).stderr


@pytest.mark.parametrize("columns", [80, 140])
def test_screen(commands: Commands, tmp_path: Path, columns: int) -> None:
    """Each row is one line at either width; a key sorts, and q gives the terminal back."""
    commands.services()
    with on_terminal(columns, tmp_path, "top", "-i", "0.2", "--wait", "20") as terminal:
        frame = terminal.wait_for("^shop ")
        assert all(len(line) <= columns for line in frame)
        [head] = [line for line in frame if line.startswith("SERVICE")]
        shown = [column.title for column in COLUMNS if f" {column.title} " in f" {head} "]
        needed = ["SERVICE", "CALLS/S", "P99", "ERR/S", "RUN", "QUEUE", "EV/S", "LAG"]
        assert [title for title in shown if title in needed] == needed
        assert columns == 80 or len(shown) == len(COLUMNS)
        [group] = [line for line in frame if line.startswith("GROUP ")]
        assert group.split() == [column.title for column in GROUP_COLUMNS]
        assert any(re.fullmatch(r"shop-greeter +auth +1 +1 +0", line) for line in frame)
        assert any("by calls: s service, c calls" in line and "q quits" in line for line in frame)
        terminal.press("s")
        terminal.wait_for("by service: ")
        terminal.press("q")
        assert terminal.wait() == 0
