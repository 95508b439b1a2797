"""What counts as growth in the run that restarts processes beside running ones."""

from __future__ import annotations

import os

from chaos.steady import Sample, Steady, sample
from helpers import Processes


def seen(**last: float) -> Steady:
    """Return the results of a process with constant resources, except for these at the end."""
    first = {"descriptors": 40, "threads": 5, "memory": 50.0, "processor": 1.0, "lines": 10}
    samples = [Sample(**first) for _ in range(11)] + [Sample(**{**first, **last})]  # type: ignore[arg-type]
    return Steady(samples={"publisher": samples}, files=[30] * 12, megabytes=[16.0] * 12, restarts=12)


def test_constant_resources_are_no_problem() -> None:
    """A few more descriptors, of a newly adopted journal, are none."""
    run = seen(descriptors=42)
    run.judge()
    assert run.problems == []
    assert "descriptors 40 -> 42" in "\n".join(run.lines())


def test_growth_is_named() -> None:
    """Each growing resource is a separate problem."""
    run = seen(descriptors=120, memory=90.0)
    run.files[-1] = 60
    run.judge()
    assert run.problems == [
        "descriptors of publisher grew from 40 to 120",
        "memory of publisher grew from 50 to 90",
        "files grew from 30 to 60",
    ]


def test_a_process_is_measured(processes: Processes) -> None:
    """The resources of a running process are read from the system."""
    process = processes.python("-c", "import time; print('one', flush=True); time.sleep(60)")
    process.wait_for_line("one")
    now = sample(process)
    assert now.descriptors >= 3
    assert (now.threads, now.lines) == (1, 1)
    assert 1 < now.memory < 1000
    os.kill(process.pid, 9)
