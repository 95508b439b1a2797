from __future__ import annotations

import signal
from pathlib import Path
from threading import Thread

import lightbus
from helpers import Processes, wait_until

MODULE = """
import asyncio
import lightbus

bus = lightbus.create(service_name="slow")


class SlowApi(lightbus.Api):
    class Meta:
        name = "slow"

    async def wait(self) -> str:
        print("waits", flush=True)
        while not bus.client.worker.stopping.is_set():
            await asyncio.sleep(0.01)
        return "done"


bus.client.register_api(SlowApi())
"""


def test_single_worker_ends_with_129_on_sighup(processes: Processes, tmp_path: Path) -> None:
    """On SIGHUP it finishes running calls, ends with 129, and logs what would have replaced it."""
    (tmp_path / "bus.py").write_text(MODULE)
    worker = processes.worker(cwd=tmp_path)
    worker.wait_for_line("Ready", 30)
    bus = lightbus.create(service_name="caller")
    answers: list[str] = []
    try:
        thread = Thread(target=lambda: answers.append(bus.slow.wait(bus_options={"timeout": 60})))
        thread.start()
        worker.wait_for_line("^waits$", 30)
        worker.signal(signal.SIGHUP)
        thread.join(60)
        wait_until(lambda: answers == ["done"])
    finally:
        bus.client.close()
    assert worker.wait(60) == 129
    assert worker.stderr.count("a single worker is not reloaded") == 1
    assert "--workers N" in worker.stderr


def test_signal_that_is_ignored(processes: Processes, tmp_path: Path) -> None:
    """Under `nohup` it keeps running."""
    (tmp_path / "bus.py").write_text(f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{MODULE}")
    worker = processes.worker(cwd=tmp_path)
    worker.wait_for_line("Ready", 30)
    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0
