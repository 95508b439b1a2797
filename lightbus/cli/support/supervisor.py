"""`lightbus run --workers N`: several worker processes, each restarted when it ends, one after another on SIGHUP.

A worker reports when it serves as it would to systemd: through the socket in NOTIFY_SOCKET, here one for each worker.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...adapters.host.places import MAX_SOCKET_PATH
from ...exceptions import UnsupportedUse
from ...plugins.systemd import notify, watchdog_interval
from .supervised import PIPE

__all__ = ["Supervisor", "next_pause"]

logger = logging.getLogger("lightbus.supervisor")

LOOK_EVERY = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a worker that ended is started again: doubled each time, until it has run for a minute."""

SETTLED_AFTER = 60.0

OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

STOPPED_AT_ONCE = 128 + signal.SIGTERM
"""The exit code of a worker that was stopped before it began to serve, which is no failure."""

READY_TIMEOUT = 60.0
"""Seconds to wait for a new worker to serve; after that the next one is replaced anyway."""


def next_pause(last: float, ran: float) -> float:
    """Return the pause in seconds before a restart, from the last pause and the seconds that the worker ran."""
    return FIRST_PAUSE if not last or ran >= SETTLED_AFTER else min(2 * last, LONGEST_PAUSE)


def _directory_for_sockets() -> tempfile.TemporaryDirectory[str]:
    """Return a new writable directory whose path is short enough for sockets."""
    for base in (None, os.environ.get("XDG_RUNTIME_DIR"), "/tmp"):
        if base == "":
            continue
        with suppress(OSError):  # an invalid TMPDIR, or no writable default
            made = tempfile.TemporaryDirectory(prefix="lightbus-", dir=base)
            if len(os.fsencode(made.name)) + len("/1234") <= MAX_SOCKET_PATH:
                return made
            made.cleanup()
    raise UnsupportedUse(
        "Several workers need a directory for their sockets, and none can be made in a place for temporary files: "
        "set TMPDIR to a directory that this user can write to, with a short path, or run one worker."
    )


class _WorkerProcess:
    """A worker process: its command, whether it serves, and when to start it next."""

    def __init__(self, number: int, command: Sequence[str], directory: Path) -> None:
        self.number = number
        self.is_ready = False
        self.was_ready = False
        self.started_at = 0.0
        self.start_at = 0.0
        self.pause = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._place = str(directory / str(number))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._place)
        self._socket.setblocking(False)

    def start(self, pipe: int) -> None:
        """
        Start the process in its own process group: Ctrl-C at a terminal reaches only the supervisor.

        Args:
            pipe: the end of a pipe by which it notices that the supervisor is gone.

        """
        environment = {**os.environ, "NOTIFY_SOCKET": self._place, PIPE: str(pipe)}
        environment.pop("WATCHDOG_USEC", None)  # systemd watches the supervisor
        self.is_ready = False
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(self._command, env=environment, process_group=0, pass_fds=[pipe])

    def look(self) -> bool:
        """Read its reports; return whether it has become ready since the last call."""
        before = self.is_ready
        with suppress(BlockingIOError):
            while True:
                if b"READY=1" in self._socket.recv(4096):
                    self.is_ready = self.was_ready = True
        return self.is_ready and not before

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def ended(self) -> int | None:
        """Return the exit code, as in shells, if the process has just ended; else None."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return None
        self.process, self.is_ready = None, False
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Supervisor:
    """
    Runs several workers until stopped, or until one cannot be started at all.

    Args:
        commands: the command of each worker.

    """

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._directory = _directory_for_sockets()
        self._workers = [
            _WorkerProcess(n, command, Path(self._directory.name)) for n, command in enumerate(commands, 1)
        ]
        self._pipe, self._other_end = os.pipe()  # the write end closes when this process ends, even if it is killed
        self._signals: list[int] = []
        self._to_replace: list[_WorkerProcess] = []
        self._replaced: tuple[_WorkerProcess, int] | None = None
        """The worker being replaced, until its successor serves, and the process id of its old process."""
        self._is_ready_reported = False
        self._exit_code = 0

    def run(self) -> int:
        """Start and supervise the workers; return the exit code."""
        before = {number: signal.signal(number, self._note) for number in OURS}
        try:
            for worker in self._workers:
                worker.start(self._pipe)
            self._supervise(self._step)
            notify("STOPPING=1")
            self._stop_all()
        finally:
            for worker in self._workers:
                worker.send(signal.SIGKILL)
                worker.close()
            os.close(self._pipe)
            os.close(self._other_end)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._directory.cleanup()
        return self._exit_code

    def _note(self, number: int, frame: object) -> None:
        self._signals.append(number)

    def _supervise(self, going_on: Callable[[], bool]) -> None:
        interval, told_at = watchdog_interval(), time.monotonic()
        while going_on():
            if interval is not None and time.monotonic() - told_at >= interval:
                told_at = time.monotonic()
                notify("WATCHDOG=1")
            time.sleep(LOOK_EVERY)

    # While they run

    def _step(self) -> bool:
        """Handle signals, and processes that ended or are due to start; return whether to continue."""
        while self._signals:
            number = self._signals.pop(0)
            if number != signal.SIGHUP:
                logger.info("Stopping %d workers, on %s", len(self._workers), signal.Signals(number).name)
                return False
            logger.info("Replacing the workers one after another, on SIGHUP")
            self._to_replace = list(self._workers)
        now = time.monotonic()
        for worker in self._workers:
            worker.look()
            if (code := worker.ended()) is not None and not self._is_restarted(worker, code, now):
                self._exit_code = code
                return False
            if worker.process is None and now >= worker.start_at:
                worker.start(self._pipe)
        self._replace_next(now)
        if not self._is_ready_reported and all(worker.is_ready for worker in self._workers):
            self._is_ready_reported = True
            logger.info("All %d workers serve", len(self._workers))
            notify(f"READY=1\nSTATUS={len(self._workers)} workers serve")
        return True

    def _is_restarted(self, worker: _WorkerProcess, code: int, now: float) -> bool:
        """Schedule the restart of a worker that has ended; return False if a restart would not help."""
        if not worker.was_ready:
            logger.error("Worker %d ended with %d before it was ready: the reason is above", worker.number, code)
            return False
        if self._replaced is not None and worker is self._replaced[0]:
            worker.pause, worker.start_at = 0.0, now
            return True
        worker.pause = next_pause(worker.pause, now - worker.started_at)
        worker.start_at = now + worker.pause
        logger.warning("Worker %d ended with %d; it is started again in %g s", worker.number, code, worker.pause)
        return True

    def _replace_next(self, now: float) -> None:
        """Stop the next worker to replace, once the successor of the previous one serves."""
        if self._replaced is not None:
            worker, pid = self._replaced
            has_successor = worker.process is not None and worker.process.pid != pid
            if not has_successor or not (worker.is_ready or now - worker.started_at > READY_TIMEOUT):
                return
            self._replaced = None
        if self._to_replace:
            worker = self._to_replace.pop(0)
            if worker.process is not None:
                self._replaced = worker, worker.process.pid
                worker.send(signal.SIGTERM)

    # Stopping

    def _stop_all(self) -> None:
        """Shut down all workers; a further signal ends them at once."""
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        self._supervise(self._is_any_running)

    def _is_any_running(self) -> bool:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGHUP:
                logger.info("No worker is replaced any more, on SIGHUP: all are stopping")
                continue
            for worker in self._workers:
                worker.send(number)
        for worker in self._workers:
            code = worker.ended() or 0
            if not self._exit_code and code != STOPPED_AT_ONCE:
                self._exit_code = code
        return any(worker.process is not None for worker in self._workers)
