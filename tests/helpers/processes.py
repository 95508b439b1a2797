"""
Programs that a test runs beside itself: started, listened to, signalled, and gone when the test is over.

Output goes to files, so that a child never blocks on a full pipe and a test can look at it at any time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .forking import ForkServer, OtherHost, Place
from .waiting import LEAST, wait_until

__all__ = ["OF_THE_MACHINE", "Process", "Processes"]

TERM_GRACE = 5.0
"""Seconds a program has to end after SIGTERM before the end of its test kills it."""


FAULTS = (
    "never retrieved", "was destroyed but it is pending", "was never awaited", "ResourceWarning", "DeprecationWarning"
)  # fmt: skip
"""Parts of the messages with which Python reports our mistakes."""

OF_THE_MACHINE = re.compile(
    r"Executing <.* took \d+\.\d{3} seconds\n\Z|The event loop (has been|was) blocked for |"
    r"ignored the announcement of "
)
"""Lines about the machine, which depend on its load, and not on the program."""


def _own_words(text: str) -> str:
    """
    Return a program's output without the lines about the machine.

    Those are the warnings of asyncio's debug mode and of our own watchdog when the machine is overloaded, and warnings
    about multicast announcements of tests that run at the same time.
    """
    if not any(words in text for words in ("Executing <", "been blocked", "was blocked", "ignored the announcement")):
        return text
    return "".join(line for line in text.splitlines(keepends=True) if not OF_THE_MACHINE.search(line))


def _text(file: Path) -> str:
    return file.read_text(errors="replace")


def _whole_lines(text: str) -> str:
    """Return the text up to the last line end: the program may still be writing the rest."""
    return text[: text.rfind("\n") + 1]


class Process:
    """
    One program in a process group of its own. `argv[0]` is the program; `logs` the directory for its output.

    If a `server` can, it starts the program as a copy of its interpreter. The program runs here, or on another `host`.
    """

    def __init__(
        self,
        argv: list[str],
        *,
        logs: Path,
        name: str,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        server: ForkServer | None = None,
        host: OtherHost | Place | None = None,
    ) -> None:
        self.name = name
        self._out = logs / f"{name}.out"
        self._err = logs / f"{name}.err"
        whole = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._out.touch()
        self._err.touch()
        self._popen: subprocess.Popen[bytes]
        if server is not None and server.can_start(argv, whole, host):
            self._popen = server.start(argv, cwd=cwd, env=whole, out=self._out, err=self._err, host=host)
        else:
            self._popen = self._new(host.command(argv) if host else argv, cwd, whole)

    def _new(self, argv: list[str], cwd: Path | str | None, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            return subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        state = "running" if self.running else f"ended with {self._popen.returncode}"
        return f"<Process {self.name} pid={self.pid} {state}>"

    @property
    def pid(self) -> int:
        """The process id, also the id of its group."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def stdout(self) -> str:
        """Its standard output so far; only whole lines while it runs."""
        ended = not self.running  # asked first: what was written before the end is then in the file
        text = _text(self._out)
        return _own_words(text if ended else _whole_lines(text))

    @property
    def stderr(self) -> str:
        """Its standard error so far."""
        return _own_words(_text(self._err))

    @property
    def output(self) -> str:
        """Both streams, standard output first."""
        return self.stdout + self.stderr

    def wait_for_line(self, pattern: str, timeout: float = LEAST) -> re.Match[str]:
        """
        Return the match of the first line, on either stream, in which `pattern` is found; only whole lines.

        Raises AssertionError with the output when `wait_until` does, or the program ends without it.
        """
        expression = re.compile(pattern, re.MULTILINE)

        def found_or_ended() -> re.Match[str] | bool | None:
            ended = not self.running  # asked first: what was written before the end is then in the file
            texts = [_text(self._out), _text(self._err)]
            matches = map(expression.search, texts if ended else map(_whole_lines, texts))
            return next(filter(None, matches), None) or ended

        try:
            match = wait_until(found_or_ended, timeout)
        except AssertionError:
            match = None
        if not isinstance(match, re.Match):
            raise AssertionError(f"no line like {pattern!r} from {self!r}\n{self.report()}")
        return match

    def wait(self, timeout: float = LEAST) -> int:
        """Return the exit code (negative: the signal that ended it); AssertionError if `wait_until` raises it."""
        try:
            wait_until(lambda: not self.running, timeout, "it has ended")
        except AssertionError as error:
            raise AssertionError(f"still running: {error}: {self!r}\n{self.report()}") from None
        return self._popen.wait()

    def signal(self, number: int) -> None:
        """Send the signal to the program (not to its children)."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Do what `kill -9` does, and wait for the end."""
        self._popen.kill()
        self._popen.wait()

    def ask_to_end(self) -> None:
        """Send SIGTERM, and wake it if it was stopped; nothing if it has ended."""
        self._popen.terminate()
        self._popen.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Give it `TERM_GRACE` seconds to end, then kill it, and in any case what is left of its group."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(TERM_GRACE)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def report(self) -> str:
        """Return its command and all its output, for a person to read."""
        return f"--- {self!r}\n{self.stdout}--- {self.name}, standard error\n{self.stderr}---"


class Processes:
    """
    The programs of one test, with their output in the directory `logs`. `end` leaves none of them.

    With a `server` those that are Lightbus's own command are copies of an interpreter, and not started anew.
    """

    def __init__(self, logs: Path, server: ForkServer | None = None) -> None:
        self._logs = logs
        self._server = server
        self._started: list[Process] = []
        self._forgiven = False

    def start(
        self,
        argv: list[str],
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        host: OtherHost | Place | None = None,
        anew: bool = False,
    ) -> Process:
        """
        Start `argv` in `cwd` with the test's environment and `env` on top, on this host or on another.

        With `anew` it is a new interpreter in any case, and no copy.
        """
        name = f"{len(self._started)}-{name or Path(argv[0]).name}"
        server = None if anew else self._server
        process = Process(argv, logs=self._logs, name=name, cwd=cwd, env=env, server=server, host=host)
        self._started.append(process)
        return process

    def python(
        self, *args: str, cwd: Path | str | None = None, env: Mapping[str, str] | None = None, name: str = "python"
    ) -> Process:
        """Start this Python with `args`: a script's path, or `"-c", code`."""
        return self.start([sys.executable, *args], cwd=cwd, env=env, name=name)

    def lightbus(self, *args: str, cwd: Path | str | None = None, env: Mapping[str, str] | None = None) -> Process:
        """Start the command line: `lightbus("peers")`."""
        return self.python("-m", "lightbus", *args, cwd=cwd, env=env, name=f"lightbus-{args[0] if args else ''}")

    def worker(self, module: str = "bus", *args: str, cwd: Path | str, env: Mapping[str, str] | None = None) -> Process:
        """Start `lightbus run --bus module` in the directory that holds the module."""
        return self.lightbus("run", "--bus", module, *args, cwd=cwd, env=env)

    def end(self) -> None:
        """End all of them, the latest first."""
        for process in reversed(self._started):
            process.ask_to_end()
        for process in reversed(self._started):
            process.end()

    def faults(self) -> list[str]:
        """Return the lines in which Python itself reports mistakes."""
        if self._forgiven:
            return []
        outputs = [process.output for process in self._started]
        told = [output for output in outputs if any(fault in output for fault in FAULTS)]
        return [line for output in told for line in output.splitlines() if any(fault in line for fault in FAULTS)]

    def forgive(self) -> None:
        """Ignore such lines: the test causes them on purpose."""
        self._forgiven = True

    def report(self) -> str:
        """Return the command and the output of each of them."""
        return "\n".join(process.report() for process in self._started)
