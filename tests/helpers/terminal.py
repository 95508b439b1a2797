"""A program on a pseudo-terminal of a certain width, and its output there."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .forking import ForkServer
from .processes import OF_THE_MACHINE
from .waiting import wait_until

__all__ = ["Terminal", "on_terminal"]

DEBUG = ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG")
"""Variables that make Python print warnings, which would be drawn between the lines of the program."""


class Terminal:
    """A pseudo-terminal, and the output of a program on it."""

    def __init__(self, master: int, program: subprocess.Popen[bytes]) -> None:
        self.program = program
        self._master = master
        self._drawn = b""

    @property
    def frames(self) -> list[list[str]]:
        """Return the screens drawn so far, as lines without colours."""
        text = self._drawn.decode(errors="replace")
        return [_own_lines(frame) for frame in text.split("\x1b[H")]

    @property
    def lines(self) -> list[str]:
        """Return all whole lines written so far, without colours and without those that are empty."""
        text = self._drawn.decode(errors="replace").rpartition("\n")[0]
        return [line for line in _own_lines(text) if line]

    def interrupt(self) -> None:
        """Send Ctrl-C."""
        self.program.send_signal(signal.SIGINT)

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._master, key.encode())

    def wait_for(self, pattern: str) -> list[str]:
        """Return the first whole screen, from now on, with a line that contains this."""
        self._drawn = b""

        def found() -> list[str] | None:
            self.read()
            whole = self.frames[:-1]
            return next((frame for frame in whole if any(re.search(pattern, line) for line in frame)), None)

        try:
            return wait_until(found) or []
        except AssertionError:
            raise AssertionError(f"no line like {pattern!r} on {self.frames[-1]}") from None

    def wait_for_line(self, pattern: str) -> str:
        """Return the first line that contains this, of all lines since the start."""

        def found() -> str | None:
            self.read()
            return next((line for line in self.lines if re.search(pattern, line)), None)

        try:
            return wait_until(found) or ""
        except AssertionError:
            raise AssertionError(f"no line like {pattern!r} among {self.lines}") from None

    def read(self) -> None:
        """Read the new output."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if ready:
            try:
                self._drawn += os.read(self._master, 65_536)
            except OSError:  # the program has ended: Linux says EIO
                return

    def wait(self) -> int:
        """Return the exit code, and read the output in the meantime."""

        def has_ended() -> bool:
            self.read()
            return self.program.poll() is not None

        wait_until(has_ended)
        return self.program.wait()


def _own_lines(text: str) -> list[str]:
    """Return lines without colours, and without messages about the machine."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.rstrip() for line in plain.splitlines() if not OF_THE_MACHINE.search(line)]


@contextmanager
def on_terminal(columns: int, cwd: Path, *args: str, server: ForkServer | None = None) -> Iterator[Terminal]:
    """Run a command on a terminal of so many columns and 24 lines; where a `server` can, as a copy of one."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in DEBUG}
    environ["TERM"] = "xterm-256color"
    argv = [sys.executable, "-m", "lightbus", *args]
    program: subprocess.Popen[bytes]
    if server is not None and server.can_start(argv, unbuffered := {**environ, "PYTHONUNBUFFERED": "1"}):
        device = os.ttyname(slave)
        program = server.start(argv, cwd=cwd, env=unbuffered, read=device, out=device, err=device)
    else:
        program = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environ, start_new_session=True
        )
    os.close(slave)
    try:
        yield Terminal(master, program)
    finally:
        program.kill()
        program.wait()
        os.close(master)
