"""The time of this machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from lightbus.adapters.host.machine_time import boot_id, machine_time


def test_it_is_the_same_for_all_processes() -> None:
    """And goes on; what it is counted from has a name that stays."""
    before = machine_time()
    code = "from lightbus.adapters.host.machine_time import *; print(machine_time(), boot_id())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    time_there, _, boot_there = said.strip().partition(" ")
    assert before <= float(time_there) <= machine_time()
    assert boot_there == boot_id()


def test_the_time_of_day_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever that says."""
    before = machine_time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert machine_time() >= before
