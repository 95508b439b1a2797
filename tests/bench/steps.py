"""
Steps instead of microseconds: what one call or event costs each side in function calls, allocations, system calls and
wake-ups, in steady state. Such figures are the same on every machine, so each path has a budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from helpers import Process

from .meter import KINDS, VARIABLE, Counts, why_not
from .programs import LIMIT, MeasurementFailed, Programs, last_words
from .sides import SERVICE

__all__ = [
    "BUDGETS",
    "KEPT_IN_TEST",
    "Budget",
    "Measured",
    "count_all",
    "count_steps",
    "over_budget",
    "table",
    "write_table",
]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "architecture" / "measurements.md"
BEGIN, END = "<!-- steps: written by the command -->", "<!-- end of steps -->"
SIZE = 300
"""Times in the shorter window; the longer one has three times as many."""

MOST_CALLED = 0.5
"""Functions that are entered less often each time are not shown."""

Measured: TypeAlias = dict[str, dict[str, Counts]]
"""By path and side, what was counted for one call or event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """
    What one side of a path may cost, each time: functions of the package that are entered, and allocations.

    A change that needs more raises the figure here, where it is seen in review.
    """

    path: str
    side: str
    title: str
    calls: float
    allocations: float


BUDGETS: tuple[Budget, ...] = (
    Budget(path="sync_async", side="client", title="sync call, async def handler: caller", calls=34, allocations=31),
    Budget(path="sync_async", side="worker", title="worker", calls=40, allocations=84),
    Budget(path="sync_def", side="worker", title="sync call, def handler: worker", calls=56, allocations=112),
    Budget(path="async_one", side="client", title="async call, one after another: caller", calls=45, allocations=90),
    Budget(path="in_flight", side="client", title="async calls, 100 in flight: caller", calls=40, allocations=53),
    Budget(path="in_flight", side="worker", title="worker", calls=40, allocations=62),
    Budget(path="events_1", side="worker", title="event of best effort: publisher", calls=18, allocations=28),
    Budget(path="events_1", side="client", title="listener", calls=8, allocations=34),
    Budget(path="kept_1", side="worker", title="kept event, 100 in flight: publisher", calls=24, allocations=48),
    Budget(path="kept_1", side="client", title="listener, acknowledging", calls=5, allocations=32),
    Budget(path="kept_each", side="worker", title="kept event, each awaited: publisher", calls=31, allocations=53),
    Budget(path="kept_each", side="client", title="listener, acknowledging", calls=8, allocations=34),
    Budget(path="fire_handler_kept", side="worker", title="fire() in a handler thread", calls=37, allocations=140),
    Budget(path="fire_script_kept", side="client", title="fire() by hand-off: script", calls=65, allocations=72),
    Budget(path="fire_script_kept", side="worker", title="publisher", calls=91, allocations=304),
)
"""In the order of the table."""

KEPT_IN_TEST = ("sync_async", "sync_def", "async_one", "fire_script_kept")
"""Paths of one thing after another: what they cost does not depend on how much comes together in time."""


def count_steps(
    programs: Programs, kind: str, paths: Iterable[str], *, size: int, rounds: int, say: Callable[[str], None]
) -> Measured:
    """Return the counts of this kind, on each path. Raises MeasurementFailed."""
    # What measures the coverage of a test run, or looks after a program in development, would be counted with them.
    others = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG")
    env = {VARIABLE: kind, **dict.fromkeys(others, "")}
    worker = programs.start(f"worker-{kind}", "-m", "lightbus", "run", "--bus", "bus", cwd=SERVICE, env=env)
    measured: Measured = {}
    for path in paths:
        say(f"{kind}: {path}")
        client = programs.start("steps", "-m", "bench.step_client", path, str(size), str(rounds), env=env)
        measured[path] = _result(client, worker)
    worker.ask_to_end()
    worker.end()
    return measured


def _result(client: Process, worker: Process) -> dict[str, Counts]:
    code = client.wait(LIMIT)
    if code:
        raise MeasurementFailed(f"{client.name} ended with {code}: {last_words(client)}; worker: {last_words(worker)}")
    found: dict[str, Counts] = json.loads(client.stdout.splitlines()[-1])
    return found


def over_budget(measured: Measured) -> list[str]:
    """Return a line for each exceeded budget, with the functions that are entered most."""
    over = []
    for budget in BUDGETS:
        counts = measured.get(budget.path, {}).get(budget.side, {})
        for name, most in (("calls", budget.calls), ("allocations", budget.allocations)):
            if counts.get(name, 0.0) > most:
                functions = "\n".join(_most_called(counts)) if name == "calls" else ""
                over.append(f"{budget.path}, {budget.side}: {counts[name]:.1f} {name}, of {most:g}\n{functions}")
    return over


def _most_called(counts: Counts) -> list[str]:
    functions = [(count, name[9:]) for name, count in counts.items() if name.startswith("calls of ")]
    return [f"    {count:6.1f} {name}" for count, name in sorted(functions, reverse=True) if count >= MOST_CALLED]


def table(measured: Measured) -> list[str]:
    """Return the lines of the table for the document."""
    lines = [
        "| path and side | function calls | budget | allocations | budget | system calls | wake-ups |",
        "|---|---|---|---|---|---|---|",
    ]
    for budget in BUDGETS:
        counts = measured.get(budget.path, {}).get(budget.side, {})
        calls, allocations, syscalls, wakes = (
            f"{counts[name]:.1f}" if name in counts else "-"
            for name in ("calls", "allocations", "syscalls", "wake_ups")
        )
        lines.append(
            f"| {budget.title} | {calls} | {budget.calls:g} | {allocations} | {budget.allocations:g} "
            f"| {syscalls} | {wakes} |"
        )
    return lines


def write_table(lines: Sequence[str]) -> None:
    """Put the table into the document, in place of the previous one."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))


def count_all(programs: Programs, *, rounds: int, write: bool, say: Callable[[str], None]) -> int:
    """Count everything, print the table and the functions of each path; return 1 if a budget is exceeded."""
    measured: Measured = {}
    paths = list(dict.fromkeys(budget.path for budget in BUDGETS))
    for kind in KINDS:
        if reason := why_not(kind):
            say(f"{kind}: not counted, since {reason}")
            continue
        for path, sides in count_steps(programs, kind, paths, size=SIZE, rounds=rounds, say=say).items():
            for side, counts in sides.items():
                measured.setdefault(path, {}).setdefault(side, {}).update(counts)
    for budget in BUDGETS:
        print(f"{budget.path}, {budget.side}: functions of the package, by how often they are entered")
        print("\n".join(_most_called(measured[budget.path][budget.side])))
    print("\n".join(lines := table(measured)))
    if write:
        write_table(lines)
    over = over_budget(measured)
    print("\n".join(over))
    return 1 if over else 0
