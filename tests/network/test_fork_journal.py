"""Forks of processes that store events: the child stores its own, and finds no lock of SQLite locked."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import Processes

PROGRAMS = Path(__file__).parent / "programs"

CODE = """
from stream import bus
import os, threading
stop = False
def fire():
    while not stop:
        bus.stream.ticked.fire(number=1)
bus.client.start_in_background()
threads = [threading.Thread(target=fire) for _ in range(2)]
for thread in threads: thread.start()
children = []
for number in range(10):
    child = os.fork()
    if child == 0:
        message = bus.stream.ticked.fire(number=number, bus_options={"timeout": 20})
        assert message.native_id, message
        os._exit(0)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
stop = True
for thread in threads: thread.join()
assert codes == [0] * 10, codes
bus.client.close()
"""


def test_forks_while_events_are_stored(processes: Processes, tmp_path: Path) -> None:
    """A process whose threads store events forks: each child fires, and none hangs."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"discovery": {"wait": 20}}))  # a child finds its parent, busy as that is
    env = {"LIGHTBUS_CONFIG": str(config)}
    script = processes.python("-W", "ignore", "-c", CODE, cwd=PROGRAMS, env=env)
    assert script.wait(60) == 0, script.report()
