"""The example of two sites, started as its reader would: a host is killed with its disk, and its events are handled."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from helpers import Processes

pytest.importorskip("nats")
pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex08_two_sites"


@pytest.mark.skipif(shutil.which("nats-server") is None, reason="no nats-server here (Debian's package nats-server)")
@pytest.mark.long
def test_events_of_a_host_that_is_gone_with_its_disk_are_handled(processes: Processes) -> None:
    """Three remaining servers have every event, and a worker that starts afterwards gets them all."""
    run = processes.start([sys.executable, str(EXAMPLE / "run.py"), "--orders", "12"], name="two-sites")
    run.wait_for_line("12 orders were fired in the north", 60)
    run.wait_for_line("The north is gone, with its disk", 10)
    run.wait_for_line(re.escape("12 orders were handled in the south"), 60)
    assert run.wait(20) == 0
