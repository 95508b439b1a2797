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
    """Return which files have changed, for people."""
    names = sorted({os.path.relpath(path) for path in paths})
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def forget_compiled(paths: Sequence[str]) -> None:
    """
    Remove what Python has kept of files that have changed.

    It takes that for up to date where a file has the size that it had, and was changed within the same second
    (PEP 3147, and the header of a .pyc): then the worker would be started anew with what the file said before.
    """
    for path in paths:
        if path.endswith(".py"):
            with contextlib.suppress(OSError, NotImplementedError):
                Path(cache_from_source(path)).unlink()


class Reloader:
    """
    Runs one worker until stopped. One that cannot start, or ends, is started at the next change.

    Args:
        command: what the worker runs.
        directories: where its files are.

    """

    def __init__(self, command: Sequence[str], directories: Sequence[str]) -> None:
        self._command = command
        self._directories = [Path(each) for each in directories]
        self._stop = threading.Event()
        self._is_asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._exit_code = 0
        self._pipe, self._other_end = os.pipe()  # the other end is closed when this process ends, however it does

    def run(self) -> int:
        """Run the worker, again and again; return the exit code of the last one that ended in order, or was ended."""
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
        """Yield the files that have changed, and nothing every now and then; until it is to stop."""
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
        # In a group of its own: Ctrl-C at a terminal is for us alone.
        environment = {**os.environ, PIPE: str(self._pipe)}
        self._process = subprocess.Popen(self._command, env=environment, process_group=0, pass_fds=[self._pipe])

    def _look(self) -> None:
        """Say so where the worker has ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process, self._exit_code = None, code
            logger.warning("The worker has ended with %d; it is restarted when a file changes", code)

    def _end(self) -> None:
        """End the worker in order, and wait for it."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        self._exit_code = 0 if code == -signal.SIGTERM else code  # that is one which had not begun to serve
        self._process = None
