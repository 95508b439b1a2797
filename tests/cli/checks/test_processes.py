"""What doctor finds out about the processes of a bus."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.surroundings import Surroundings

    from ..conftest import Commands

YEAR_2400 = 13_569_465_600.0


def test_nobody(commands: Commands) -> None:
    """An empty bus is a warning that says where it looked and what to start."""
    process = commands.run("doctor", "--wait", "0.2", code=1)
    assert "warning peers: nobody is on the bus (bus 'test-" in process.stdout
    assert "Start a worker (lightbus run)" in process.stdout


def test_warnings(commands: Commands) -> None:
    """Two processes of one name and two versions of one API are warned of, and make the exit code 1."""
    for version in (1, 2):
        worker = commands.serve("auth", "--process-name", "same", version=version, where=f"auth-{version}")
        worker.wait_for_line("Ready")
    findings = {each["check"]: each for each in commands.json("doctor", code=1) if each["level"] == "warning"}
    assert "2 processes are called 'auth same'" in findings["names"]["text"]
    assert "do not serve the same (versions 2, 1; services auth)" in findings["versions"]["text"]
    assert all(finding["remedy"] for finding in findings.values())


def keep_what_is_left(bus: str) -> None:
    """Have no worker of another test, as it starts and whatever its clock says, remove what is left of a killed one."""
    for path in Path(f"/tmp/lightbus-{os.geteuid()}", bus).iterdir():
        os.utime(path, (YEAR_2400,) * 2)


def test_a_worker_that_was_killed(commands: Commands, surroundings: Surroundings) -> None:
    """On this host it is certain that it has ended: doctor says so, and no list waits for its answer any more."""
    auth, shop = commands.services()
    keep_what_is_left(surroundings.bus)
    shop.signal(signal.SIGKILL)
    shop.wait()
    [found] = [each for each in commands.json("doctor", code=1) if each["level"] != "ok" and each["check"] == "peers"]
    assert (found["level"], found["text"].split()[0]) == ("warning", "shop")
    assert "has ended without a goodbye" in found["text"]
    assert [each["service"] for each in commands.json("peers")] == ["auth"]
    process = commands.run("lag")  # whoever else runs here takes care of what it kept
    assert "shop" in process.stderr
    assert "has ended without a goodbye" in process.stderr
    auth.signal(signal.SIGKILL)
    auth.wait()
    error = commands.run("lag", code=3).stderr
    assert "Nobody is on the bus" in error
    assert error.count("has ended without a goodbye") == 2


def test_a_worker_that_was_stopped(commands: Commands) -> None:
    """It is there and does not answer: doctor says how to tell which process it is, and what to do."""
    worker = commands.serve("auth")
    worker.wait_for_line("Ready")
    worker.signal(signal.SIGSTOP)
    try:
        [found] = [each for each in commands.json("doctor", code=2) if each["level"] == "error"]
    finally:
        worker.signal(signal.SIGCONT)
    assert "is announced, and does not answer" in found["text"]
    assert "kill -CONT" in found["remedy"]
