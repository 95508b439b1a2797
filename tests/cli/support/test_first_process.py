"""`lightbus run` as the first process of a container, as a namespace of process ids makes it one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

import lightbus
from helpers import Process, Processes, wait_until

SERVICE = """
import contextlib, os, subprocess, sys, time
from pathlib import Path
import lightbus

print("imported", os.getpid(), flush=True)
time.sleep(float(os.environ.get("IMPORT_SECONDS", "0")))
bus = lightbus.create()

class HomeApi(lightbus.Api):
    class Meta:
        name = "home"

    def leave_an_orphan(self) -> None:
        subprocess.run(["sh", "-c", "true &"], check=True)

    def zombies(self) -> int:
        count = 0
        for each in os.listdir("/proc"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                count += each.isdigit() and Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return count

bus.client.register_api(HomeApi())
"""

pytestmark = [
    pytest.mark.new_interpreters,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a namespace of process ids"),
]


def start(processes: Processes, directory: Path, **env: str) -> tuple[Process, int]:
    """Start it; return the process that made the namespace, and the id of the first process in it."""
    (directory / "bus.py").write_text(SERVICE)
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    outer = processes.start([*own, sys.executable, "-m", "lightbus", "run"], cwd=directory, env=env)
    outer.wait_for_line("imported")
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    return outer, int(children[0])


def test_orphans_leave_no_zombies(processes: Processes, tmp_path: Path) -> None:
    """Orphans are reaped, and a signal ends the worker as usual."""
    outer, first = start(processes, tmp_path)
    outer.wait_for_line("Ready")
    bus = lightbus.create(service_name="caller")
    with bus.client:
        for _ in range(5):
            bus.home.leave_an_orphan()
        wait_until(lambda: bus.home.zombies() == 0, what="no zombies are left")
    os.kill(first, signal.SIGTERM)
    assert outer.wait() == 0
    assert "Stopping, on SIGTERM" in outer.stderr


def test_a_signal_ends_the_import(processes: Processes, tmp_path: Path) -> None:
    """SIGTERM amid the import of the module, which the first process of a container would not notice, ends it."""
    outer, first = start(processes, tmp_path, IMPORT_SECONDS="60")
    os.kill(first, signal.SIGTERM)
    assert outer.wait() == 128 + signal.SIGTERM
