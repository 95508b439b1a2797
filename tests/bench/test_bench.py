"""The benchmark measures what it says: its arithmetic by tables, its programs by a short run of the reference."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench.command import main
from bench.measure import percentiles
from bench.programs import MeasurementFailed, rate
from bench.report import print_comparison
from bench.rounds import Notebook, lines, run, run_in_turn
from bench.rows import ROWS, Figure, Verdict, chosen, verdict

BY_NAME = {row.name: row for row in ROWS}


@pytest.mark.parametrize(
    ("name", "value", "raw", "expected"),
    [
        ("sync_async", 137, 100, Verdict.GOAL),  # 1.37 <= 1.1 and a quarter
        ("sync_async", 138, 100, Verdict.FIRST_STEP),
        ("sync_async", 156, 100, Verdict.FIRST_STEP),  # 1.56 <= 1.25 and a quarter
        ("sync_async", 157, 100, Verdict.NO),
        ("in_flight", 105, 100, Verdict.GOAL),
        ("in_flight", 104, 100, Verdict.FIRST_STEP),
        ("in_flight", 82, 100, Verdict.NO),
        ("cold", 312, 44, Verdict.GOAL),  # the figure itself is bounded, whatever raw takes
        ("cold", 626, 44, Verdict.NO),
        ("sync_async_p99", 1, 100, Verdict.UNRATED),
    ],
)
def test_target_is_met_within_a_quarter(name: str, value: float, raw: float, expected: Verdict) -> None:
    """A target is met within a quarter of it, to either side by whether less or more is better."""
    assert verdict(BY_NAME[name], value, raw) is expected


def test_percentiles_in_microseconds() -> None:
    """Durations in seconds give the median and the 99th percentile in microseconds, whatever their order."""
    assert percentiles([n / 1000 for n in range(100, 0, -1)]) == pytest.approx({"p50": 51_000, "p99": 100_000})


def test_rate_spans_all_subscribers() -> None:
    """Deliveries are counted over all subscribers, from the first arrival at any to the last at any."""
    arrivals = [{"received": 10, "first": 1.0, "last": 2.0}, {"received": 30, "first": 1.5, "last": 3.0}]
    assert rate(arrivals) == {"per_s": 20.0, "received": 40}


def test_unknown_row_is_named() -> None:
    """A misspelt row is an error that lists the rows there are."""
    with pytest.raises(ValueError, match="no such row: speed; there are sync_async"):
        chosen("cold,speed")


class Scripted:
    """A side that returns what it is given, one entry a round; None fails."""

    def __init__(self, **figures: list[float | None]) -> None:
        self.left = figures

    def measure(self, measurement: str) -> dict[str, float]:
        value = self.left[measurement].pop(0)
        if value is None:
            raise MeasurementFailed("it fell over")
        return {"per_s": value}


def test_medians_of_interleaved_rounds() -> None:
    """Each measurement runs once a round, raw first; two rows with one raw measurement share its figures."""
    rows = [BY_NAME["in_flight"], BY_NAME["threads"]]
    said: list[str] = []
    raw = Notebook("raw", Scripted(in_flight=[100, 300, 200]), said.append)
    ours = Notebook("ours", Scripted(in_flight=[50, 10, 90], threads=[1, 2, 3]), said.append)
    run(rows, raw, ours, rounds=3)
    assert [(line.raw, line.value, line.ratio) for line in lines(rows, raw, ours)] == [(200, 50, 0.25), (200, 2, 0.01)]
    assert said[:3] == ["round 1: in_flight (raw)", "round 1: in_flight (ours)", "round 1: threads (ours)"]


def test_two_packages_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is measured with both, in alternating order; the better of the rounds counts."""
    rows = [BY_NAME["in_flight"], BY_NAME["sync_async"]]
    said: list[str] = []

    class Calls(Scripted):
        def measure(self, measurement: str) -> dict[str, float]:
            return (
                {"p50": super().measure(measurement)["per_s"]}
                if measurement == "sync_async"
                else super().measure(measurement)
            )

    before = Notebook("v1", Calls(in_flight=[100, 80], sync_async=[100, 120]), said.append)
    now = Notebook("now", Calls(in_flight=[90, 50], sync_async=[70, 50]), said.append)
    run_in_turn(rows, before, now, rounds=2)
    order = ["v1", "now", "v1", "now", "now", "v1", "now", "v1"]
    assert [line.rpartition("(")[2].rstrip(")") for line in said] == order
    print_comparison(rows, before, now, rounds=2)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-2] for line in printed if "in_flight" in line or "sync_async" in line] == ["-10%", "+50%"]


@pytest.mark.long
def test_compare_measures_the_package_of_a_commit(capsys: pytest.CaptureFixture[str]) -> None:
    """`--compare REF` runs; an unknown commit is an error that names it."""
    checkout = Path(__file__).parents[2]
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True).returncode:
        pytest.skip("not in a clone with git")
    assert main(["--quick", "--rows", "sync_async", "--security", "host", "--compare", "HEAD"]) == 0
    assert "HEAD and now, in turn" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no package at 'nowhere'"):
        main(["--compare", "nowhere"])


def test_failure_is_kept_and_not_repeated() -> None:
    """A failed measurement says why in its line, is not tried in later rounds, and does not affect the others."""
    rows = [BY_NAME["in_flight"], BY_NAME["threads"]]
    raw = Notebook("raw", Scripted(in_flight=[100, 100]), lambda _: None)
    ours = Notebook("ours", Scripted(in_flight=[None], threads=[60, 60]), lambda _: None)
    run(rows, raw, ours, rounds=2)
    first, second = lines(rows, raw, ours)
    assert (first.value, first.failure, first.verdict) == (None, "it fell over", Verdict.UNRATED)
    assert (second.value, second.failure, second.verdict) == (60, "", Verdict.GOAL)


def test_raw_side_measures_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The raw side measures every row with real processes, prints the table and writes it as JSON."""
    written = tmp_path / "bench.json"
    assert main(["--raw-only", "--quick", "--json", str(written)]) == 0
    table = capsys.readouterr().out
    content = json.loads(written.read_text())
    assert [row["name"] for row in content["rows"]] == list(BY_NAME)
    assert all(row["name"] in table and row["raw"] > 0 for row in content["rows"])


def test_figures_of_a_row_are_measured_alike() -> None:
    """A row compares the same figure of both sides, in the same unit."""
    assert {row.ours.name for row in ROWS} == {row.raw.name for row in ROWS}
    assert all(row.ours.name == row.raw.name for row in ROWS)
    assert Figure(measurement="cold", name="ms") in {row.ours for row in ROWS}
