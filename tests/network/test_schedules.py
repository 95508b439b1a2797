"""Schedules that one worker of a service runs, in processes that are killed."""

from __future__ import annotations

import signal
from pathlib import Path

from helpers import Processes, wait_until

BUS = """
import os
import lightbus

bus = lightbus.create(service_name="shop")

@bus.client.every(seconds=0.1, once_per_service=True)
def tidy():
    with open("ran", "a") as file:
        file.write(f"{os.getpid()}\\n")

@bus.client.every(seconds=0.1)
def show():
    for each in bus.internal.peer.stats(bus_options={"peer": bus.client.engine.identity.instance})["schedules"]:
        if each["left"]:
            print("it is left to others", flush=True)
"""


def test_a_schedule_is_handed_over_when_its_worker_is_killed_or_ends(processes: Processes, tmp_path: Path) -> None:
    """Whichever of them runs it: it continues in another one."""
    (tmp_path / "bus.py").write_text(BUS)
    workers = {worker.pid: worker for worker in (processes.worker(cwd=tmp_path) for _ in range(3))}
    lines = tmp_path / "ran"

    def ran() -> list[int]:
        return [int(line) for line in lines.read_text().split()] if lines.exists() else []

    wait_until(lambda: sum("it is left" in each.stdout for each in workers.values()) >= 2)
    for number in (signal.SIGKILL, signal.SIGTERM):
        wait_until(lambda: ran() and ran()[-1] in workers)
        busy = workers.pop(ran()[-1])
        busy.signal(number)
        busy.wait()
        before = len(ran())
        wait_until(lambda before=before: {*ran()[before:]} & {*workers})  # type: ignore[misc]
