"""Programs of a test: read, signalled, and ended with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from helpers import Processes, wait_until, waiting


def test_process_is_signalled_and_read(processes: Processes) -> None:
    """A program's lines, exit code and signals are available; a missing line shows the other output."""
    program = processes.python("-c", "import time; print('ready 7'); time.sleep(60)")
    assert program.wait_for_line(r"^ready (\d)$")[1] == "7"
    program.signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM
    with pytest.raises(AssertionError, match=r"(?s)no line like 'never'.*ready 7"):
        program.wait_for_line("never")  # it has ended


def test_line_that_is_being_written_is_not_read(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line matches once its end is there; of a program that has ended the last line needs none."""
    code = (
        "import pathlib, sys, time\nprint('fired 1', end='', flush=True)\nprint('begun', file=sys.stderr)\n"
        f"while not pathlib.Path({str(tmp_path / 'go on')!r}).exists(): time.sleep(0.01)\n"
        "print('23\\nfired 4', end='')"
    )
    program = processes.python("-c", code)
    program.wait_for_line("begun")
    monkeypatch.setattr(waiting, "LEAST", 0.0)
    with pytest.raises(AssertionError, match="no line like"):
        program.wait_for_line("fired", timeout=0.0)
    monkeypatch.undo()
    (tmp_path / "go on").touch()
    assert program.wait_for_line(r"^fired (\d+)$")[1] == "123"
    assert program.wait_for_line(r"^fired (\d)$")[1] == "4"


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
