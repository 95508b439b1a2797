"""The plugin that notifies systemd of the worker's state (sd_notify(3)): READY, STOPPING, and watchdog pings.

`lightbus run` uses it if the unit has `Type=notify`, which sets NOTIFY_SOCKET. The pings come from the worker's event
loop: if that is blocked for `WatchdogSec=`, systemd restarts the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

from . import LightbusPlugin

__all__ = ["SystemdPlugin", "notify", "watchdog_interval"]

logger = logging.getLogger("lightbus.systemd")


def notify(message: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send lines like `READY=1` to the supervisor of this process; return whether that worked."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # a name in Linux's abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as sender:
            sender.settimeout(1.0)
            sender.sendto(message.encode(), address)
    except OSError as error:
        logger.warning("systemd could not be notified of %r at NOTIFY_SOCKET: %s", message, error)
        return False
    return True


def watchdog_interval(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds between two watchdog pings, half of `WatchdogSec=`; None if systemd expects none."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else None


class SystemdPlugin(LightbusPlugin):
    """Notifies systemd when the worker serves, that it is alive, and when it stops."""

    priority = 10_000  # last: other plugins must be ready before

    def __init__(self) -> None:
        self._notifying: asyncio.Task[None] | None = None

    async def after_worker_started(self, *, client: Any) -> None:
        """Send READY, and start the task that pings the watchdog."""
        names = ", ".join(api.meta.name for api in client.api_registry.public()) or "no API"
        notify(f"READY=1\nSTATUS=Serving {names} as {client.process_name}\nMAINPID={os.getpid()}")
        self._notifying = asyncio.create_task(self._notify_systemd(client.worker.stopping))

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Stop the task that pings the watchdog."""
        telling, self._notifying = self._notifying, None
        if telling is not None:
            telling.cancel()
            await asyncio.wait([telling])

    async def _notify_systemd(self, stopping: asyncio.Event) -> None:
        interval = watchdog_interval()
        is_stopping = asyncio.ensure_future(stopping.wait())
        try:
            while not is_stopping.done():
                if interval is not None:
                    notify("WATCHDOG=1")
                await asyncio.wait([is_stopping], timeout=interval)
        finally:  # also if the worker has stopped so quickly that this task was cancelled before it noticed
            is_stopping.cancel()
            notify("STOPPING=1\nSTATUS=Finishing what runs")
        while interval is not None:  # the last calls may take longer than `WatchdogSec=`
            notify("WATCHDOG=1")
            await asyncio.sleep(interval)
