"""A short run of chaos: processes are killed, stopped and restarted, frames get lost, and no event is."""

from __future__ import annotations

import random
import shutil
import tempfile
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from chaos.run import Plan, run
from helpers.forking import ForkServer, can_fork


@pytest.mark.long
def test_no_event_is_lost(chaos: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event whose `fire` had returned is handled by every group, in order; `nox -s chaos` runs it for long."""
    directory = Path(tempfile.mkdtemp(prefix="lb-chaos-", dir="/tmp"))
    plan = Plan(
        seconds=6,
        least_blows=3,
        seed=chaos.randrange(2**32),
        rate=300,
        pause=0.8,
        publishers=2,
        members=2,
        scripts=1,
        groups=("mail", "audit"),
        harms=("drop",),  # the others take long
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # as all the programs have it
    try:
        with closing(ForkServer()) if can_fork() else nullcontext() as server:
            outcome = run(plan, directory, server)
    finally:
        shutil.rmtree(directory)
    print(outcome.line(plan))
    assert outcome.problems == []
    assert outcome.events > 500
    assert outcome.blows.total() > 2
