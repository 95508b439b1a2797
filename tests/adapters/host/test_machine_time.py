"""The time of this machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from lightbus.adapters.host.machine_time import boot_id, machine_time


def test_machine_time_is_equal_in_all_processes() -> None:
    """It increases, and the boot id stays the same."""
    before = machine_time()
    code = "from lightbus.adapters.host.machine_time import *; print(machine_time(), boot_id())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    time_there, _, boot_there = said.strip().partition(" ")
    assert before <= float(time_there) <= machine_time()
    assert boot_there == boot_id()


def test_time_of_day_does_not_change_machine_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any time of day."""
    before = machine_time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert machine_time() >= before
