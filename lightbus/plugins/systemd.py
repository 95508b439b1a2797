"""The plugin that tells systemd how the worker is (sd_notify(3)): READY, STOPPING, and the beats of its watchdog.

`lightbus run` uses it where the unit has `Type=notify`, which sets NOTIFY_SOCKET. The beats come from the worker's
event loop: where that stands still for `WatchdogSec=`, systemd restarts the process.
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
    """Send lines like `READY=1` to whoever supervises this process; return whether that worked."""
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
    """Return the seconds between two beats that systemd wants, half of `WatchdogSec=`; None where it wants none."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else None


class SystemdPlugin(LightbusPlugin):
    """Tells systemd when the worker serves, that it goes on, and when it stops."""

    priority = 10_000  # others are ready before

    def __init__(self) -> None:
        self._telling: asyncio.Task[None] | None = None

    async def after_worker_started(self, *, client: Any) -> None:
        """It serves; from now on it tells that it goes on."""
        names = ", ".join(api.meta.name for api in client.api_registry.public()) or "no API"
        notify(f"READY=1\nSTATUS=Serving {names} as {client.process_name}\nMAINPID={os.getpid()}")
        self._telling = asyncio.create_task(self._notify_systemd(client.worker.stopping))

    async def after_worker_stopped(self, *, client: Any) -> None:
        """It has stopped."""
        telling, self._telling = self._telling, None
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
            notify("STOPPING=1\nSTATUS=Finishing what runs")
            while interval is not None:  # the last calls may take longer than it waits
                notify("WATCHDOG=1")
                await asyncio.sleep(interval)
        finally:
            is_stopping.cancel()
