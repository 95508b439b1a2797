"""The rates between two rounds."""

from __future__ import annotations

from typing import Any

from helpers.scripted_bus import peer
from lightbus.cli.commands.graph import Edge
from lightbus.cli.commands.peers import PeerReport
from lightbus.dashboard.round import KEPT, Round, Series, edge_rates, rates


def report(calls: int, *, instance: str = "a" * 16, service: str = "auth", handled: int = 0) -> PeerReport:
    """Return a worker with these numbers of calls and handled events."""
    stats: dict[str, Any] = {
        "uptime": 60.0,
        "procedures": [{"api": "auth", "procedure": "check", "calls": calls, "errors": calls // 2, "p99": None}],
        "events": [{"api": "auth", "event": "left", "published": calls}],
        "listeners": [{"api": "auth", "name": "greet", "handled": {"left": handled, "came": handled}, "failed": 1}],
    }
    return PeerReport(peer=peer(service, instance=instance), state="up", rtt=0.001, stats=stats)


def rounds(before: list[PeerReport], now: list[PeerReport], *, seconds: float = 2.0) -> tuple[Round, Round]:
    """Return two rounds, this many seconds apart."""
    first = Round(number=1, at=10.0, clock=1000.0, reports=before)
    return first, Round(number=2, at=10.0 + seconds, clock=1002.0, reports=now)


def test_rates_are_per_second() -> None:
    """Over the processes of a service; a listener's over all its events."""
    other = "b" * 16
    before, now = rounds(
        [report(10, handled=4), report(0, instance=other)],
        [report(30, handled=8), report(10, instance=other)],
    )
    found = rates(now, before)
    assert found["auth", "calls", "auth", "check"] == 15.0
    assert found["auth", "errors", "auth", "check"] == 7.5
    assert found["auth", "published", "auth", "left"] == 15.0
    assert found["auth", "handled", "auth", "greet"] == 4.0
    assert found["auth", "failed", "auth", "greet"] == 0.0


def test_a_new_process_counts_from_the_next_round_on() -> None:
    """Its earlier counts are no rate; nor are those of a process whose counts began again."""
    before, now = rounds([report(100)], [report(3), report(50, instance="b" * 16)])
    assert rates(now, before)["auth", "calls", "auth", "check"] == 0.0
    assert rates(now, None) == {}


def test_a_process_that_did_not_answer_has_no_rate() -> None:
    """And there is no division by zero."""
    silent = PeerReport(peer=peer(), state="suspect")
    before, now = rounds([report(1)], [silent])
    assert rates(now, before) == {}
    before, now = rounds([report(1)], [report(1)], seconds=0.0)
    assert rates(now, before)["auth", "calls", "auth", "check"] == 0.0


def test_loads_of_processes_that_answered() -> None:
    """By instance; for a new one, over the time since its start."""
    before, now = rounds([report(10)], [report(30), PeerReport(peer=peer(instance="c" * 16), state="suspect")])
    found = now.loads(before)
    assert found.keys() == {"a" * 16}
    assert found["a" * 16].calls == 10.0
    assert now.loads(None)["a" * 16].calls == 30 / 60


def test_rates_of_edges() -> None:
    """Of each by itself, with errors; a new one, or one whose counts began again, has none yet."""

    def edge(count: int, name: str = "auth.check", errors: int = 0) -> Edge:
        return Edge(source="web", target="auth", kind="calls", name=name, count=count, errors=errors)

    before = Round(number=1, at=1.0, clock=0.0, edges=[edge(10, errors=3), edge(9, "auth.reset", 2)])
    now = Round(number=2, at=3.0, clock=0.0, edges=[edge(20, errors=5), edge(1, "auth.reset"), edge(5, "auth.new", 1)])
    assert edge_rates(now, before) == {
        ("web", "auth", "calls", "auth.check"): (5.0, 1.0),
        ("web", "auth", "calls", "auth.reset"): (0.0, 0.0),
        ("web", "auth", "calls", "auth.new"): (0.0, 0.0),
    }
    assert edge_rates(now, None) == {}


def test_curves_are_bounded() -> None:
    """The oldest values of a curve are dropped, and so is a curve without new values."""
    series = Series()
    for number in range(KEPT + 5):
        series.note([("calls", number), ("lag", 0.12345)])
    assert series.of("calls") == [*range(5, KEPT + 5)]
    assert series.of("lag")[-1] == 0.123
    series.note([("calls", 1)])
    assert series.of("lag") == []
