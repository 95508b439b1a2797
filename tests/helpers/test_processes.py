"""Programs of a test: read, signalled, and ended with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from helpers import Processes, wait_until


def test_process_is_signalled_and_read(processes: Processes) -> None:
    """A program's lines, exit code and signals are available; a missing line shows the other output."""
    program = processes.python("-c", "import time; print('ready 7'); time.sleep(60)")
    assert program.wait_for_line(r"^ready (\d)$")[1] == "7"
    program.signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM
    with pytest.raises(AssertionError, match=r"(?s)no line like 'never'.*ready 7"):
        program.wait_for_line("never")  # it has ended


def test_process_group_ends(processes: Processes) -> None:
    """The end of a program takes its children with it."""
    code = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid); child.wait()"
    program = processes.python("-c", code)
    child = int(program.wait_for_line(r"^\d+$")[0])
    processes.end()
    wait_until(lambda: not _runs(child), what="the child is gone")


def test_pythons_complaints(processes: Processes) -> None:
    """Its messages about errors of a program are found; those of asyncio's debug mode about slowness are left out."""
    code = "import asyncio, time\nasync def main(): time.sleep(0.2)\nasyncio.run(main(), debug=True)\nmain()"
    program = processes.python("-W", "error::DeprecationWarning", "-c", code)
    assert program.wait() == 0
    assert "took 0.2" not in program.output
    [fault] = processes.faults()
    processes.forgive()
    assert "coroutine 'main' was never awaited" in fault


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
