"""The lines as a table for a person (rich) and as JSON for a program."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .rounds import Line, Notebook
from .rows import SIDE_BY_SIDE, Row, Verdict

__all__ = ["print_comparison", "print_modes", "print_table", "write_json"]

COLOURS = {Verdict.GOAL: "green", Verdict.FIRST_STEP: "yellow", Verdict.NO: "red", Verdict.UNRATED: "dim"}


def print_table(lines: Sequence[Line], title: str) -> None:
    """Print the table, and below it why a row has no figure, and the losses of best effort."""
    table = Table(title=title, title_justify="left")
    table.add_column("row", style="bold", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for heading in ("lightbus", "R (raw)", "ratio", "first step", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("met", no_wrap=True)
    for line in lines:
        row, colour = line.row, COLOURS[line.verdict]
        met = "failed" if line.failure else line.verdict.value
        table.add_row(
            row.name,
            f"{row.title} ({row.unit})",
            _number(line.value),
            _number(line.raw),
            "-" if line.ratio is None else f"{line.ratio:.2f}",
            _target(row, row.first_step),
            _target(row, row.goal),
            f"[{'red' if line.failure else colour}]{met}[/]",
        )
    console = Console(width=None if os.isatty(1) else 140, highlight=False)  # a log has room
    console.print(table)
    for line in lines:
        if line.failure:
            console.print(f"{line.row.name}: {line.failure}", style="red", markup=False)
        if line.lost:
            console.print(f"{line.row.name}: {line.lost:g} events were lost (best effort)", style="yellow")


def print_modes(beside: Mapping[str, Sequence[Line]]) -> None:
    """Print the rows that were measured in several modes of security, a column for each mode and one for raw."""
    table = Table(title="modes of security side by side", title_justify="left")
    table.add_column("row", style="bold", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for heading in (*beside, "R (raw)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in zip(*beside.values(), strict=True):
        row = each[0].row
        if row.name in SIDE_BY_SIDE:
            values = [_number(line.value) for line in each]
            table.add_row(row.name, f"{row.title} ({row.unit})", *values, _number(each[0].raw))
    console = Console(width=None if os.isatty(1) else 140, highlight=False)
    console.print(table)
    for mode, found in beside.items():
        for line in found:
            if line.failure:
                console.print(f"{line.row.name} ({mode}): {line.failure}", style="red", markup=False)


SLOWER = 0.05
"""A row that is worse by more than this part is marked."""


def print_comparison(rows: Sequence[Row], before: Notebook, now: Notebook, *, rounds: int) -> None:
    """Print the best of both packages' rounds for each row, and the relative difference of the later one."""
    table = Table(title=f"{before.name} and now, in turn, the best of {rounds} rounds", title_justify="left")
    table.add_column("row", style="bold", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for heading in (before.name, "now", "better by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        old, new = before.best(row), now.best(row)
        better = "-"
        if old and new:
            gain = (old - new) / old if row.lower else (new - old) / old
            better = f"[{'red' if gain < -SLOWER else 'default'}]{gain:+.0%}[/]"
        table.add_row(row.name, f"{row.title} ({row.unit})", _number(old), _number(new), better)
    console = Console(width=None if os.isatty(1) else 140, highlight=False)
    console.print(table)
    for each in (before, now):
        for measurement, failure in each.failures.items():
            console.print(f"{measurement} ({each.name}): {failure}", style="red", markup=False)


def write_json(lines: Sequence[Line], path: Path, about: dict[str, Any], beside: Mapping[str, Sequence[Line]]) -> None:
    """Write the lines, with `about`, the machine and the values of each mode, to the file."""
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    content = {**about, **machine, "rows": [_as_json(line) for line in lines]}
    content["modes"] = {
        mode: {line.row.name: line.value for line in found if line.value is not None} for mode, found in beside.items()
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _as_json(line: Line) -> dict[str, Any]:
    return {
        "name": line.row.name,
        "title": line.row.title,
        "unit": line.row.unit,
        "value": line.value,
        "raw": line.raw,
        "ratio": line.ratio,
        "first_step": line.row.first_step,
        "goal": line.row.goal,
        "target_is": "value" if line.row.absolute else "ratio",
        "met": line.verdict.value,
        "lost": line.lost,
        "failure": line.failure,
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _target(row: Row, target: float | None) -> str:
    if target is None:
        return "-"
    return f"{'<=' if row.lower else '>='} {target:g}{' ' + row.unit if row.absolute else ''}"
