"""`lightbus top`: what is computed from two readings, and the screen, in a terminal of either width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lightbus.cli.top import COLUMNS, Load, Reading, loads, ordered
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement

if TYPE_CHECKING:
    from .conftest import Commands


def peer(number: int = 0) -> Peer:
    """Return a peer."""
    announcement = Announcement(bus="b", instance=f"{number:016x}", service="auth", process="one", host="h", apis=())
    return Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0, heard_at=0.0)


def stats(calls: int, errors: int, published: int, handled: int) -> dict[str, Any]:
    """Return what a worker tells."""
    return {
        "uptime": 100.0,
        "running": 3,
        "queued": 7,
        "procedures": [
            {"calls": calls, "errors": errors, "p50": 0.1, "p99": 0.4},
            {"calls": 0, "errors": 0, "p50": 0.2, "p99": 0.3},
        ],
        "events": [{"published": published}],
        "listeners": [{"handled": {"a": handled, "b": 1}, "failed": 0, "waiting": 5}],
    }


def test_rates() -> None:
    """Rates are what was counted between two readings; latency is that of the slowest procedure."""
    before = Reading(peer=peer(), at=10.0, stats=stats(100, 1, 10, 10))
    now = Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 16))
    [load] = loads({peer().instance: before}, [now])
    assert load == Load(
        service="auth", process="one", host="h",
        calls=25.0, errors=1.0, events=5.0, p50=0.1, p99=0.4, running=3, queued=7, lag=5,
    )  # fmt: skip
    assert load.row() == ["auth", "one", "h", "25", "100.0 ms", "400.0 ms", "1", "3", "7", "5", "5"]
    assert len(load.row()) == len(COLUMNS)


def test_newcomer() -> None:
    """A worker that was not there at the last reading has done all since its start; one without statistics nothing."""
    [load] = loads({}, [Reading(peer=peer(), at=12.0, stats=stats(150, 3, 14, 15))])
    assert (load.calls, load.events) == (1.5, 0.3)
    [unknown] = loads({}, [Reading(peer=peer(), at=12.0, stats={})])
    assert (unknown.calls, unknown.p99, unknown.lag) == (0.0, None, 0)


def test_order() -> None:
    """The greatest comes first, or the service's name."""
    readings = [Reading(peer=peer(n), at=12.0, stats=stats(n, 0, 0, 0)) for n in (1, 3, 2)]
    rows = loads({}, readings)
    assert [row.calls for row in ordered(rows, "calls")] == [0.03, 0.02, 0.01]
    assert len(ordered(rows, "service")) == 3


def test_stream(commands: Commands) -> None:
    """With --json it is a stream, which Ctrl-C ends without a word; without a terminal it says what to use."""
    commands.services()
    process = commands.start("top", "--json", "-i", "0.1")
    process.wait_for_line('"service": "shop"')
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr == ""
    assert "Use --json" in commands.run("top", code=2).stderr


class Terminal:
    """A pseudo-terminal, and what a program drew on it."""

    def __init__(self, master: int, program: subprocess.Popen[bytes]) -> None:
        self.program = program
        self._master = master
        self._drawn = b""

    @property
    def frames(self) -> list[list[str]]:
        """Return the screens drawn so far, as lines without colours."""
        text = self._drawn.decode(errors="replace")
        return [
            [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in frame.splitlines()]
            for frame in text.split("\x1b[H")
        ]

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._master, key.encode())

    def wait_for(self, pattern: str) -> list[str]:
        """Return the first whole screen, from now on, on which a line has this."""
        self._drawn = b""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            self.read()
            for frame in self.frames[:-1]:
                if any(re.search(pattern, line) for line in frame):
                    return frame
        raise AssertionError(f"no line like {pattern!r} on {self.frames[-1]}")

    def read(self) -> None:
        """Take in what was drawn meanwhile."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if ready:
            try:
                self._drawn += os.read(self._master, 65_536)
            except OSError:  # the program has ended: Linux says EIO
                return

    def wait(self) -> int:
        """Return the exit code, drawing taken in meanwhile."""
        end = time.monotonic() + 20
        while self.program.poll() is None and time.monotonic() < end:
            self.read()
        return self.program.wait(1)


@contextmanager
def on_terminal(columns: int, cwd: Path, *args: str) -> Iterator[Terminal]:
    """Run a command on a terminal of so many columns and 24 lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color"}
    program = subprocess.Popen(
        [sys.executable, "-m", "lightbus", *args],
        stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environ, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(master, program)
    finally:
        program.kill()
        program.wait()
        os.close(master)


@pytest.mark.parametrize("columns", [80, 140])
def test_screen(commands: Commands, tmp_path: Path, columns: int) -> None:
    """Each row is one line at either width; a key sorts, and q gives the terminal back."""
    commands.services()
    with on_terminal(columns, tmp_path, "top", "-i", "0.2", "--wait", "20") as terminal:
        frame = terminal.wait_for("^shop ")
        assert all(len(line) <= columns for line in frame)
        [head] = [line for line in frame if line.startswith("SERVICE")]
        shown = [column.title for column in COLUMNS if f" {column.title} " in f" {head} "]
        needed = ["SERVICE", "CALLS/S", "P99", "ERR/S", "RUN", "QUEUE", "EV/S", "LAG"]
        assert [title for title in shown if title in needed] == needed
        assert columns == 80 or len(shown) == len(COLUMNS)
        assert any("by calls: s service, c calls" in line and "q quits" in line for line in frame)
        terminal.press("s")
        terminal.wait_for("by service: ")
        terminal.press("q")
        assert terminal.wait() == 0
