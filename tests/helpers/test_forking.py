from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from helpers import Processes
from helpers.forking import ForkServer
from helpers.surroundings import Surroundings

MODULE = """
import json, os, random, sys

print(json.dumps({
    "argv": sys.argv[1:], "path": sys.path[0], "cwd": os.getcwd(), "bus": os.environ["LIGHTBUS_BUS"],
    "more": os.environ.get("MORE"), "parent": os.getppid(), "group": os.getpgid(0) == os.getpid(),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "random": random.random(),
    "main": sys.modules["__main__"].__spec__.name,
}))
os._exit(3)
"""


@pytest.fixture
def anew(tmp_path: Path) -> Processes:
    """Return what starts each program in a new interpreter."""
    (tmp_path / "anew").mkdir()
    return Processes(tmp_path / "anew")


def test_a_copy_is_what_a_new_interpreter_would_be(
    processes: Processes, anew: Processes, surroundings: Surroundings, tmp_path: Path
) -> None:
    """Only its randomness is its own."""
    (tmp_path / "told.py").write_text(MODULE)
    told = []
    for each in (processes, anew, processes):
        process = each.worker("told", "--service-name", "x", cwd=tmp_path, env={"MORE": "yes"})
        assert process.wait() == 3, process.report()
        told.append(json.loads(process.stdout))
    randomness = [each.pop("random") for each in told]
    assert told[0] == told[1] == told[2]
    assert len(set(randomness)) == 3
    assert (told[0]["bus"], told[0]["parent"], told[0]["group"]) == (surroundings.bus, os.getpid(), True)


def test_a_signal_ends_a_copy(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time; print('up'); time.sleep(60)")
    process = processes.worker("waits", cwd=tmp_path)
    process.wait_for_line("up")
    assert process.running
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="there are no copies elsewhere")
def test_what_is_started_anew(fork_server: ForkServer) -> None:
    """Another program, and an interpreter that is set up in another way."""
    env, command = dict(os.environ, PYTHONUNBUFFERED="1"), [sys.executable, "-m", "lightbus", "version"]
    assert fork_server.can_start(command, env)
    assert not fork_server.can_start([sys.executable, "-c", "pass"], env)
    assert not fork_server.can_start(command, {**env, "PYTHONDEVMODE": "1"})
    assert not fork_server.can_start(command, {**env, "TZ": "UTC+3"})
