"""The search for leaks finds each kind, and ignores what has gone."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from pathlib import Path

from helpers import MS, Processes
from helpers.leaks import Snapshot, TaskComplaints
from helpers.surroundings import Surroundings

SHORTLY = 20 * MS


def test_closed_loop_and_ended_thread_are_no_leak(surroundings: Surroundings) -> None:
    """A loop that ran and was closed, and a thread that ended, are no leaks."""
    before = Snapshot(surroundings.bus)
    asyncio.run(asyncio.sleep(0))
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert before.leaked() == []


def test_running_thread_is_a_leak(surroundings: Surroundings) -> None:
    """A thread that still runs is named; one that ends within the patience is waited for."""
    before, release = Snapshot(surroundings.bus), threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten", daemon=True)
    thread.start()
    assert before.leaked(SHORTLY) == ["thread forgotten"]
    threading.Timer(SHORTLY, release.set).start()
    assert before.leaked() == []


def test_loop_with_task(surroundings: Surroundings) -> None:
    """A loop that was not closed is named, with the task that waits in it and the descriptors it holds."""
    before, loop = Snapshot(surroundings.bus), asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(60), name="forgotten")
    left = before.leaked(SHORTLY)
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert any(line.startswith("open event loop") for line in left)
    assert any(line.startswith("pending task") and "name='forgotten'" in line for line in left)
    assert any("eventpoll" in line for line in left)
    assert before.leaked() == []


def test_open_socket_and_file_are_leaks(surroundings: Surroundings, tmp_path: Path) -> None:
    """An open socket and an open file are named."""
    before = Snapshot(surroundings.bus)
    with socket.socket(), (tmp_path / "forgotten").open("w"):
        file, sock = sorted(before.leaked(SHORTLY), key=lambda line: "socket:" in line)
    assert file.endswith(str(tmp_path / "forgotten"))
    assert "socket:[" in sock
    assert before.leaked() == []


def test_orphan_is_found_and_killed(surroundings: Surroundings, processes: Processes) -> None:
    """A process whose parent is gone is still found, by the mark in its environment."""
    before = Snapshot(surroundings.bus)
    # Not by subprocess, which complains of what it leaves running in Python's development mode.
    code = "import os; print(os.posix_spawnp('sleep', ['sleep', '60'], os.environ, setsid=True))"
    parent = processes.python("-c", code)
    assert parent.wait() == 0
    orphan = int(parent.stdout)
    assert before.leaked(SHORTLY) == [f"process {orphan} sleep 60 "]
    before.kill_processes()
    assert before.leaked() == []


def test_temporary_file_that_is_left_is_named(surroundings: Surroundings) -> None:
    """A file left in the directory of temporary files is named."""
    left = surroundings.temporary / "forgotten"
    left.touch()
    assert surroundings.left_files() == ["temporary file forgotten"]
    left.unlink()


def test_unread_error_of_task() -> None:
    """Asyncio's message about an unread error is kept; its other messages are not."""
    complaints = TaskComplaints()
    for text in ("Task exception was never retrieved", "Task was destroyed but it is pending!", "poll took 100 ms"):
        complaints.emit(logging.makeLogRecord({"msg": text}))
    assert complaints.found == ["Task exception was never retrieved", "Task was destroyed but it is pending!"]
