"""The load of each procedure over all workers."""

from __future__ import annotations

from typing import Any

from lightbus.cli.support.loads import Reading, ordered
from lightbus.cli.support.procedure_loads import PROCEDURE_COLUMNS, ProcedureLoad, procedure_loads
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement


def reading(number: int, at: float, *procedures: tuple[str, int, int, float | None]) -> Reading:
    """Return a worker's statistics."""
    announcement = Announcement(bus="b", instance=f"{number:016x}", service="auth", process="one", host="h", apis=())
    peer = Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0)
    told: list[dict[str, Any]] = [
        {"api": "auth", "procedure": name, "calls": calls, "errors": errors, "p50": p99, "p99": p99}
        for name, calls, errors, p99 in procedures
    ]
    return Reading(peer=peer, at=at, stats={"uptime": 100.0, "procedures": told})


def test_over_all_workers() -> None:
    """Rates are added up, the latency is that of the slowest; a worker that came just now counts since its start."""
    before = reading(1, 10.0, ("check", 100, 1, 0.1))
    now = [reading(1, 12.0, ("check", 150, 3, 0.1), ("echo", 4, 0, None)), reading(2, 12.0, ("check", 200, 0, 0.4))]
    check, echo = ordered(procedure_loads({before.peer.instance: before}, now), "calls")
    assert check == ProcedureLoad(
        api="auth", procedure="check", workers=2, calls=27.0, errors=1.0, p50=0.4, p99=0.4
    )  # fmt: skip
    assert check.row() == ["auth.check", "2", "27", "400.0 ms", "400.0 ms", ("1", "red")]
    assert len(check.row()) == len(PROCEDURE_COLUMNS)
    assert echo.row() == ["auth.echo", "1", "2", "-", "-", "0"]
    assert check.fields()["type"] == "procedure"


def test_a_worker_whose_counts_began_again_and_one_without_counts() -> None:
    """Neither gives a negative rate."""
    before = reading(1, 10.0, ("check", 100, 1, 0.1))
    [load] = procedure_loads({before.peer.instance: before}, [reading(1, 12.0, ("check", 5, 0, 0.1))])
    assert (load.calls, load.errors) == (0.0, 0.0)
    silent = Reading(peer=before.peer, at=12.0, stats={})
    assert procedure_loads({before.peer.instance: before}, [silent]) == []


def test_sorted_by_what_procedures_do_not_have() -> None:
    """Then they are in the order of their names."""
    loads = procedure_loads({}, [reading(1, 12.0, ("b", 5, 0, 0.1), ("a", 1, 0, 0.1))])
    assert [each.procedure for each in ordered(loads, "lag")] == ["a", "b"]
