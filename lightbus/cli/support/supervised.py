"""A worker of `lightbus run --workers`: it ends when its supervisor is gone, even if that was killed.

It inherits one end of a pipe that nobody writes to: once the other end is closed, it becomes readable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Any

from ...plugins import LightbusPlugin

__all__ = ["PIPE", "SupervisedPlugin", "supervisor_pipe"]

logger = logging.getLogger("lightbus.supervisor")

PIPE = "SUPERVISOR_OF_LIGHTBUS"
"""The environment variable with the file descriptor of the pipe."""


def supervisor_pipe() -> int | None:
    """Return this process's end of the pipe, if any, and remove the variable: its own children must not get it."""
    number = os.environ.pop(PIPE, "")
    return int(number) if number.isdecimal() else None


class SupervisedPlugin(LightbusPlugin):
    """Shuts down the worker, as SIGTERM does, once its supervisor is gone."""

    priority = 10

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    async def before_worker_start(self, *, client: Any) -> None:
        """Start watching the pipe."""
        asyncio.get_running_loop().add_reader(self._pipe, self._end)

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Stop watching the pipe."""
        asyncio.get_running_loop().remove_reader(self._pipe)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe)
        _clear_up()
        logger.error("The parent process of this worker (lightbus run --workers) has ended without stopping it")
        os.kill(os.getpid(), signal.SIGTERM)


def _clear_up() -> None:
    """Remove the supervisor's socket for this worker; the last worker removes the directory, too."""
    place = os.environ.pop("NOTIFY_SOCKET", "")
    with contextlib.suppress(OSError):
        os.unlink(place)
        os.rmdir(os.path.dirname(place))
