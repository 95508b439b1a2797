"""`lightbus run --reload`: a worker that is restarted when a file of the program changes. For development."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from ...exceptions import InvalidConfiguration
from .supervised import PIPE

try:
    from watchfiles import PythonFilter, watch
except ImportError as error:
    raise InvalidConfiguration("--reload needs the package watchfiles: pip install 'lightbus[reload]'") from error

__all__ = ["Reloader", "forget_compiled", "shown"]

logger = logging.getLogger("lightbus.reload")

LOOK_EVERY_MS = 200
SETTINGS = (".yaml", ".yml", ".toml")
"""Files that may hold settings, besides those of Python. JSON is left out: programs write that while they run."""

OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

MOST_NAMES = 3


def shown(paths: Sequence[str]) -> str:
    """Return the changed files as text."""
    names = sorted({os.path.relpath(path) for path in paths})
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def forget_compiled(paths: Sequence[str]) -> None:
    """
    Remove the compiled files (.pyc) of changed source files.

    Python considers a .pyc up to date if the source has the same size and was changed within the same second (PEP 3147,
    and the header of a .pyc): then the restarted worker would run the old code.
    """
    for path in paths:
        if path.endswith(".py"):
            with contextlib.suppress(OSError, NotImplementedError):
                Path(cache_from_source(path)).unlink()


class Reloader:
    """
    Runs one worker until stopped. A worker that cannot start, or ends, is started again at the next change.

    Args:
        command: the command of the worker.
        directories: the directories to watch.

    """

    def __init__(self, command: Sequence[str], directories: Sequence[str]) -> None:
        self._command = command
        self._directories = [Path(each) for each in directories]
        self._stop = threading.Event()
        self._is_asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._exit_code = 0
        self._pipe, self._other_end = os.pipe()  # the write end closes when this process ends, even if it is killed

    def run(self) -> int:
        """Run and restart the worker until stopped; return the exit code of the last worker."""
        before = {number: signal.signal(number, self._note) for number in OURS}
        try:
            self._start()
            for paths in self._changes():
                if paths or self._is_asked:
                    logger.info("Restarting the worker: %s", f"{shown(paths)} changed" if paths else "on SIGHUP")
                    self._is_asked = False
                    self._end()
                    forget_compiled(paths)
                    self._start()
                else:
                    self._look()
            self._end()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            os.close(self._pipe)
            os.close(self._other_end)
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._exit_code

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            self._is_asked = True
        elif not self._stop.is_set():
            self._stop.set()
        elif self._process is not None:
            self._process.send_signal(number)  # the second one ends it at once

    def _changes(self) -> Iterator[list[str]]:
        """Yield the changed files, and an empty list at intervals, until stopped."""
        found: Any = watch(
            *self._directories,
            watch_filter=PythonFilter(extra_extensions=SETTINGS),
            stop_event=self._stop,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            debounce=LOOK_EVERY_MS,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        for changes in found:
            if self._stop.is_set():
                return
            yield [path for _, path in changes]

    def _start(self) -> None:
        # In its own process group: Ctrl-C at a terminal reaches only this process.
        environment = {**os.environ, PIPE: str(self._pipe)}
        self._process = subprocess.Popen(self._command, env=environment, process_group=0, pass_fds=[self._pipe])

    def _look(self) -> None:
        """Log a warning if the worker has ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process, self._exit_code = None, code
            logger.warning("The worker has ended with %d; it is restarted when a file changes", code)

    def _end(self) -> None:
        """Shut down the worker, and wait for it."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        self._exit_code = 0 if code == -signal.SIGTERM else code  # -SIGTERM: it had not begun to serve
        self._process = None
