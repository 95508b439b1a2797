"""`lightbus run --workers`, as an operator sees it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import tempfile
from pathlib import Path

import pytest

from helpers import Process, Processes, wait_until
from lightbus.cli.support.supervisor import LONGEST_PAUSE, SETTLED_AFTER, _directory_for_sockets, next_pause
from lightbus.exceptions import UnsupportedUse

SERVICE = """
import os
import lightbus

bus = lightbus.create(service_name="auth")

class AuthApi(lightbus.Api):
    class Meta:
        name = "auth"

    def check_password(self, username: str) -> bool:
        return True

bus.client.register_api(AuthApi())

@bus.client.after_worker_started
def started():
    print(f"serves {os.getpid()}", flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "bus.py").write_text(SERVICE)
    return tmp_path


def pids(supervisor: Process) -> list[int]:
    """Return the process ids that have served, in order."""
    return [int(pid) for pid in re.findall(r"^serves (\d+)$", supervisor.stdout, flags=re.MULTILINE)]


def both(supervisor: Process) -> list[int]:
    """Return the first two, once both are ready: they answer a moment before that."""
    return pids(supervisor) if len(set(pids(supervisor))) == 2 else []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_are_restarted_replaced_and_stopped(processes: Processes, directory: Path) -> None:
    """As many as were asked for serve; one that is killed is started again; SIGHUP replaces each; SIGTERM ends all."""
    supervisor = processes.worker("bus", "--workers", "2", "--process-name", "w", cwd=directory)
    supervisor.wait_for_line("All 2 workers serve", 30)
    first = wait_until(lambda: both(supervisor), 30)
    os.kill(first[0], signal.SIGKILL)
    supervisor.wait_for_line(r"Worker \d ended with 137; it is started again in 1 s")
    wait_until(lambda: len(pids(supervisor)) == 3, 30)
    before = {first[1], pids(supervisor)[2]}
    supervisor.signal(signal.SIGHUP)
    wait_until(lambda: len(pids(supervisor)) == 5, 30)
    wait_until(lambda: not any(map(is_running, before)), 30)
    now = pids(supervisor)[3:]
    assert all(map(is_running, now))
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0
    assert not any(map(is_running, now))


def test_supervisor_that_is_killed(processes: Processes, directory: Path) -> None:
    """Its workers shut down, free their ports, and log why."""
    supervisor = processes.worker("bus", "--workers", "2", cwd=directory)
    supervisor.wait_for_line("All 2 workers serve", 30)
    workers = wait_until(lambda: both(supervisor), 30)
    supervisor.signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, workers)), 30)
    assert supervisor.stderr.count("The parent process of this worker (lightbus run --workers) has ended") == 2
    assert len(re.findall("lightbus.worker: Stopped auth", supervisor.stderr)) == 2


def test_logs_of_the_form_that_was_asked_for(processes: Processes, directory: Path) -> None:
    """With `--log-format json` the supervisor logs JSON, too; with a file, as configured there."""
    settings = directory / "logs.json"
    settings.write_text(
        '{"formatters": {"f": {"format": "MINE %(message)s"}}, "root": {"handlers": ["h"], "level": "INFO"},'
        ' "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}}}'
    )
    for options in (["--log-format", "json"], ["--log-config", str(settings)]):
        supervisor = processes.worker("bus", "--workers", "2", *options, cwd=directory)
        supervisor.wait_for_line("All 2 workers serve", 30)
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
        if "json" in options:
            told = [json.loads(line) for line in supervisor.stderr.splitlines()]
            ours = [each for each in told if each["logger"] == "lightbus.supervisor"]
            assert [each["process"] for each in ours] == ["supervisor"] * 2
        else:
            assert all(line.startswith("MINE ") for line in supervisor.stderr.splitlines())


SLOW_END = """
import asyncio
import pathlib

@bus.client.on_stop
async def finish():
    print("stops", flush=True)
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
"""


def test_hangup_while_they_stop(processes: Processes, directory: Path) -> None:
    """A SIGHUP during the shutdown does not interrupt running calls."""
    (directory / "bus.py").write_text(SERVICE + SLOW_END)
    supervisor = processes.worker("bus", "--workers", "2", cwd=directory)
    supervisor.wait_for_line("All 2 workers serve", 30)
    supervisor.signal(signal.SIGTERM)
    wait_until(lambda: supervisor.stdout.count("stops") == 2, 30)
    supervisor.signal(signal.SIGHUP)
    supervisor.wait_for_line("No worker is replaced any more, on SIGHUP")
    (directory / "go").touch()
    assert supervisor.wait(60) == 0


def test_one_that_cannot_start(processes: Processes, directory: Path) -> None:
    """The reason is logged once, and it is not restarted for ever."""
    (directory / "bus.py").write_text("raise ValueError('broken')")
    supervisor = processes.worker("bus", "--workers", "2", cwd=directory)
    assert supervisor.wait(60) == 1
    assert "before it was ready: the reason is above" in supervisor.stderr


@pytest.mark.parametrize(
    ("last", "ran", "expected"),
    [
        (0.0, 0.1, 1.0),
        (1.0, 0.1, 2.0),
        (16.0, 0.1, LONGEST_PAUSE),
        (LONGEST_PAUSE, SETTLED_AFTER, 1.0),
    ],
)
def test_restart_pause_doubles_for_early_exits(last: float, ran: float, expected: float) -> None:
    """They double as long as it ends soon after its start."""
    assert next_pause(last, ran) == expected


def test_long_path_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in which a socket's path would be too long is passed over, and nothing is left in it."""
    long = tmp_path / ("d" * 110)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with _directory_for_sockets() as made:
        assert len(made) < 100
    assert [*long.iterdir()] == []


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to set."""

    def refuse(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(UnsupportedUse, match="set TMPDIR"):
        _directory_for_sockets()
