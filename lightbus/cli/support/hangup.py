"""SIGHUP to a single worker: it cannot replace itself, so it shuts down, and logs what would replace it."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from ...plugins import LightbusPlugin

__all__ = ["HANGUP", "HangupPlugin"]

logger = logging.getLogger("lightbus.worker")

HANGUP = 128 + signal.SIGHUP
"""The exit code, as in shells: it tells a supervisor that the worker did not fail by itself."""


class HangupPlugin(LightbusPlugin):
    """Shuts the worker down on SIGHUP, unless that is ignored (nohup) or the program handles it."""

    priority = 10

    def __init__(self) -> None:
        self._is_ours = False

    async def before_worker_start(self, *, client: Any) -> None:
        """Handle the signal from now on."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            self._is_ours = True
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._end, client)

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Stop handling it."""
        if self._is_ours:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    def _end(self, client: Any) -> None:
        worker = client.worker
        if worker is None or worker.stopping.is_set():
            return
        logger.warning(
            "Stopping, on SIGHUP: a single worker is not reloaded, it ends with %d, and its supervisor has to start "
            "it again. lightbus run --workers N replaces workers one after another on SIGHUP; --reload restarts one "
            "when a file changes.",
            HANGUP,
        )
        worker.request_stop(HANGUP)
