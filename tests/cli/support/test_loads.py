"""The load of workers and the lag of groups, computed from their reports."""

from __future__ import annotations

from typing import Any

from lightbus.cli.support.loads import COLUMNS, GROUP_COLUMNS, GroupLag, Load, Reading, lags, loads, ordered
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement


def peer(number: int = 0) -> Peer:
    """Return a peer."""
    announcement = Announcement(bus="b", instance=f"{number:016x}", service="auth", process="one", host="h", apis=())
    return Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0)


def stats(calls: int, errors: int, published: int, handled: int) -> dict[str, Any]:
    """Return the statistics of a worker."""
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


def test_rates_are_counted_between_two_readings() -> None:
    """Rates are differences between two readings; latency is that of the slowest procedure."""
    before = Reading(peer=peer(), at=10.0, stats=stats(100, 1, 10, 10))
    now = Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 16))
    [load] = loads({peer().instance: before}, [now])
    assert load == Load(
        service="auth", process="one", instance=peer().instance, host="h",
        calls=25.0, errors=1.0, events=5.0, p50=0.1, p99=0.4, running=3, queued=7, lag=5,
    )  # fmt: skip
    counts = [("1", "red"), "3", ("7", "yellow"), "5", ("5", "yellow")]
    assert load.row() == ["auth", "one", "h", "25", "100.0 ms", "400.0 ms", *counts]
    assert len(load.row()) == len(COLUMNS)


def test_new_worker_counts_since_its_start() -> None:
    """A worker that was not there at the last reading has done all since its start; one without statistics nothing."""
    [load] = loads({}, [Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 15))])
    assert (load.calls, load.events) == (1.5, 0.3)
    [unknown] = loads({}, [Reading(peer=peer(), at=12.0, stats={})])
    assert (unknown.calls, unknown.p99, unknown.lag) == (0.0, None, 0)


def test_lag_of_groups() -> None:
    """Each group is one row, with the lag at all publishers; the largest lag comes first."""

    def told(name: str, lag: int, *members: str) -> dict[str, Any]:
        return {"api": "auth", "name": name, "lag": lag, "members": {member: [0] for member in members}}

    first, second = lags([[told("mail", 3), told("shop", 4, "a")], [told("shop", 1, "a", "b")]])
    assert first == GroupLag(api="auth", group="shop", members=2, publishers=2, lag=5)
    assert second == GroupLag(api="auth", group="mail", members=0, publishers=1, lag=3)
    assert len(first.row()) == len(GROUP_COLUMNS)
    assert second.row()[-1] == ("3", "red")  # nobody will handle that
    assert first.fields()["type"] == "group"


def test_greatest_comes_first() -> None:
    """The greatest comes first, or the service's name."""
    readings = [Reading(peer=peer(n), at=12.0, stats=stats(n, 0, 0, 0)) for n in (1, 3, 2)]
    rows = loads({}, readings)
    assert [row.calls for row in ordered(rows, "calls")] == [0.03, 0.02, 0.01]
    assert len(ordered(rows, "service")) == 3


def test_a_worker_whose_counts_began_again() -> None:
    """Lower counts than before give no negative rate."""
    before = Reading(peer=peer(), at=10.0, stats=stats(100, 1, 10, 10))
    [load] = loads({peer().instance: before}, [Reading(peer=peer(), at=12.0, stats=stats(5, 0, 0, 0))])
    assert (load.calls, load.errors, load.events) == (0.0, 0.0, 0.0)


def test_fields_are_those_of_the_row() -> None:
    """With their names, for programs."""
    [load] = loads({}, [Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 15))])
    assert load.fields()["type"] == "worker"
    assert (load.fields()["calls"], load.fields()["queued"]) == (1.5, 7)
