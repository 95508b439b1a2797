"""The function calls and allocations of a call and an event stay within the budgets."""

from __future__ import annotations

import pytest

from bench.command import programs_for
from bench.meter import Counts, why_not
from bench.steps import BUDGETS, KEPT_IN_TEST, Measured, count_steps, over_budget, table

SIZE = 40

TRIES = 8
"""
How often it is counted at most; of each side the least counts. Beside others' work a frame is now and then read in two
turns, what an idle process does by the way comes oftener in the longer time, and what is counted is the difference of
two windows, of which the first may have had something by the way: all of that only adds. What is within its budget is
not counted again.
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["calls", "memory"])
def test_paths_within_their_budgets(kind: str) -> None:
    """Each path of one thing after another takes no more than its budget."""
    if reason := why_not(kind):
        pytest.skip(reason)
    counted = "calls" if kind == "calls" else "allocations"
    least = Measured({path: {} for path in KEPT_IN_TEST})
    wrong = {path: [""] for path in KEPT_IN_TEST}
    for _ in range(TRIES):
        with programs_for("host") as programs:
            measured = count_steps(programs, kind, wrong, size=SIZE, rounds=2, say=print)
        for path, sides in measured.items():
            for side, counts in sides.items():
                if counts[counted] > 1:  # a window that had more by the way than the longer one counts nothing
                    least[path][side] = min(counts, least[path].get(side, counts), key=lambda each: each[counted])
        if not (wrong := {path: lines for path in wrong if (lines := _wrong(path, least[path]))}):
            break
    assert not wrong, "\n".join(line for lines in wrong.values() for line in lines)


def _wrong(path: str, least: dict[str, Counts]) -> list[str]:
    sides = [each.side for each in BUDGETS if each.path == path]
    nothing = [f"{path}, {side}: nothing was counted" for side in sides if side not in least]
    return [*nothing, *over_budget({path: least})]


def test_an_exceeded_budget_is_named() -> None:
    """With the functions that are entered most, and in the table."""
    budget = BUDGETS[0]
    counts = {"calls": budget.calls + 1, "calls of rpc/server.py:Server.handle": 2.0, "allocations": 1.0}
    measured = {budget.path: {budget.side: counts}}
    [line] = over_budget(measured)
    assert line.startswith(f"{budget.path}, {budget.side}: {budget.calls + 1:.1f} calls, of {budget.calls:g}\n")
    assert "2.0 rpc/server.py:Server.handle" in line
    assert table(measured)[2] == (
        f"| {budget.title} | {budget.calls + 1:.1f} | {budget.calls:g} | 1.0 | {budget.allocations:g} | - | - |"
    )


def test_each_budget_is_one_of_a_path() -> None:
    """No side of a path has two budgets, and none is left out of the test by a misspelt name."""
    keys = [(each.path, each.side) for each in BUDGETS]
    assert len(set(keys)) == len(keys)
    assert set(KEPT_IN_TEST) <= {each.path for each in BUDGETS}
