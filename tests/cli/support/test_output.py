"""What commands show: tables that fit, JSON that is complete, and text that does a terminal no harm."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from rich.console import Console

from lightbus.cli.support.output import FORMS, Cell, Column, Output, ago, duration, json_line, listed, number, table
from lightbus.wire.plain import TOO_DEEP

COLUMNS = [Column(title="NAME"), Column(title="NOTE", optional=2), Column(title="COUNT", right=True, optional=1)]


def drawn(rows: list[list[Cell]], width: int) -> list[str]:
    """Return the lines of a table."""
    console = Console(width=width, color_system=None)
    made, _ = table(COLUMNS, rows, width)
    with console.capture() as captured:
        console.print(made)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_least_important_column_is_dropped_first() -> None:
    """If the table is too wide, the least important column is left out first."""
    rows: list[list[Cell]] = [["auth", "a long remark", ("12", "bold")], ["shop", "", "3"]]
    assert drawn(rows, 40) == ["NAME  NOTE           COUNT", "auth  a long remark     12", "shop                     3"]
    assert drawn(rows, 20) == ["NAME  COUNT", "auth     12", "shop      3"]
    assert drawn(rows, 5) == ["NAME", "auth", "shop"]


def test_table_returns_left_out_columns() -> None:
    """The caller gets the titles of the columns left out."""
    assert table(COLUMNS, [["auth", "a long remark", "12"]], 20)[1] == ["NOTE"]


def test_pipe_gets_whole_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a pipe nothing is cut off, nothing has a colour, and no line ends in spaces."""
    monkeypatch.delenv("COLUMNS", raising=False)
    Output().table([Column(title="A"), Column(title="B", optional=1)], [[("x" * 300, "red"), "y"], ["z", ""]])
    assert capsys.readouterr().out.splitlines() == [f"A{' ' * 301}B", f"{'x' * 300}  y", "z"]


@pytest.mark.parametrize("columns", ["0", "", "many"])
def test_a_width_that_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """COLUMNS without a number of columns counts as not set: in 0 columns nothing at all could be shown."""
    monkeypatch.setenv("COLUMNS", columns)
    Output().table([Column(title="A"), Column(title="B", optional=1)], [["x" * 300, "y"]])
    assert capsys.readouterr().out.splitlines() == [f"A{' ' * 301}B", f"{'x' * 300}  y"]


@pytest.mark.parametrize(("count", "text"), [(0, ""), (2, "n0, n1"), (30, "n28, n29"), (1000, "n29 and 970 more")])
def test_names_in_a_sentence(count: int, text: str) -> None:
    """A thousand of them are not all named: what the sentence says would be lost in them."""
    told = listed(f"n{number}" for number in range(count))
    assert told.endswith(text)
    assert told.count(",") == max(0, min(count, 30) - 1)


def test_notes_and_records(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes are for people and go to standard error; a record is one line of JSON."""
    Output().note("by the way")
    Output(as_json=True).note("by the way")
    Output(as_json=True).record({"name": "ä", "at": datetime(2026, 1, 2, tzinfo=UTC), "bytes": b"\xff"})
    out, err = capsys.readouterr()
    assert err == "by the way\n"
    assert json.loads(out) == {"name": "ä", "at": "2026-01-02T00:00:00+00:00", "bytes": "\\xff"}


def test_records_in_other_forms(capsys: pytest.CaptureFixture[str]) -> None:
    """YAML: a document each; CSV: a row each below the field names, which are repeated when they change."""
    first = {"name": "ä", "at": datetime(2026, 1, 2, tzinfo=UTC), "peers": ["a", "b"], "none": None, "up": True}
    for form in FORMS:
        output = Output(as_json=True, form=form)
        for record in (first, first | {"name": 'a,"b"'}, {"other": 1.5}):
            output.record(record)
        out = capsys.readouterr().out
        at = "2026-01-02T00:00:00+00:00"
        if form == "yaml":
            told = [*yaml.safe_load_all(out)]
            assert told == [
                {"name": "ä", "at": at, "peers": ["a", "b"], "none": None, "up": True},
                {"name": 'a,"b"', "at": at, "peers": ["a", "b"], "none": None, "up": True},
                {"other": 1.5},
            ]
        if form == "csv":
            rows = [*csv.reader(out.splitlines())]
            names = ["name", "at", "peers", "none", "up"]
            assert rows[:3] == [
                names, ["ä", at, '["a", "b"]', "", "true"], ['a,"b"', at, '["a", "b"]', "", "true"]
            ]  # fmt: skip
            assert rows[3:] == [[], ["other"], ["1.5"]]
        if form == "json":
            assert json.loads(out.splitlines()[2]) == {"other": 1.5}


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is no bar."""
    with Output().progress("Working", 2) as advance:
        advance(1, "half")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**30, {1: 2}, "\x1b[2J\n"])
def test_json_line_is_one_line(value: Any) -> None:
    """Any value becomes one line of JSON."""
    line = json_line({"value": value})
    assert "\n" not in line
    json.loads(line)


@pytest.mark.parametrize("form", FORMS)
def test_field_that_is_nested_too_deeply(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A sentence stands in its place; the other fields are shown."""
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    Output(as_json=True, form=form).record({"id": "x", "kwargs": {"value": deep}})
    written = capsys.readouterr().out
    assert "x" in written
    assert TOO_DEEP in written
    assert json.loads(json_line(deep)) == TOO_DEEP


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, ""), (0.0, "0 us"), (0.00038, "380 us"), (0.0123, "12.3 ms"), (4.2, "4.2 s"), (90, "1.5 min"),
     (7200, "2.0 h"), (172_800, "2.0 d")],
)  # fmt: skip
def test_duration_has_the_unit_with_few_digits(seconds: float | None, expected: str) -> None:
    """Durations have the unit that leaves few digits."""
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ""), (0, "0"), (0.25, "0.2"), (3, "3"), (12.4, "12"), (9999, "9999"), (12_345, "12.3k"), (2e6, "2.0M")],
)
def test_large_numbers_are_shortened(value: float | None, expected: str) -> None:
    """Numbers stay short."""
    assert number(value) == expected


def test_clock_ahead_of_ours_shows_no_negative_time() -> None:
    """A time in the future is shown as now."""
    assert ago(100.0, 105.0) == "5.0 s"
    assert ago(105.0, 100.0) == "just now"
