"""A worker of `lightbus run --workers`: it ends when its supervisor is gone, however that ended.

It is given one end of a pipe that nobody writes to: once the other end is closed, it can be read.
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
"""The variable by which a supervisor tells its worker which descriptor that is."""


def supervisor_pipe() -> int | None:
    """Return the end of the pipe that this process was given, if any; once: what it starts itself is given none."""
    number = os.environ.pop(PIPE, "")
    return int(number) if number.isdecimal() else None


class SupervisedPlugin(LightbusPlugin):
    """Ends the worker in order, as SIGTERM does, once its supervisor is gone."""

    priority = 10

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    async def before_worker_start(self, *, client: Any) -> None:
        """Watch from now on."""
        asyncio.get_running_loop().add_reader(self._pipe, self._end)

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Watch no more."""
        asyncio.get_running_loop().remove_reader(self._pipe)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe)
        _clear_up()
        logger.error("The parent process of this worker (lightbus run --workers) has ended without stopping it")
        os.kill(os.getpid(), signal.SIGTERM)


def _clear_up() -> None:
    """Remove the socket at which the supervisor listened for this worker; the last one its directory, too."""
    place = os.environ.pop("NOTIFY_SOCKET", "")
    with contextlib.suppress(OSError):
        os.unlink(place)
        os.rmdir(os.path.dirname(place))
