"""The health check of a web process: does the bus work as the process needs it?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..client import BusClient
from ..exceptions import LightbusTimeout
from ..path import BusPath
from ..plugins.health import STALLED_AFTER

__all__ = ["BusHealth", "bus_health", "bus_health_async"]

APIS_TIMEOUT = 0.5
"""Seconds within which the needed APIs must be found: less than a probe waits."""


class BusHealth(NamedTuple):
    """The result of the check: the reasons why the process is not ready."""

    reasons: list[str]

    @property
    def is_ready(self) -> bool:
        """Whether the process is ready."""
        return not self.reasons

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return 200 if self.is_ready else 503

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"ready": self.is_ready, "reasons": self.reasons}


def bus_health(bus: BusPath, needs: Sequence[str] = ()) -> BusHealth:
    """
    Check the bus for this process, in at most half a second. From a plain thread.

    Args:
        bus: a bus made by `create()`.
        needs: APIs without which this process cannot work: a peer must serve each of them.

    """
    reasons = _own_reasons(bus.client)
    if needs:
        try:
            bus.client.wait_for_apis(*needs, timeout=APIS_TIMEOUT)
        except LightbusTimeout as error:
            reasons.append(str(error))
    return BusHealth(reasons)


async def bus_health_async(bus: BusPath, needs: Sequence[str] = ()) -> BusHealth:
    """Return what `bus_health` returns, without blocking the event loop."""
    reasons = _own_reasons(bus.client)
    if needs:
        try:
            await bus.client.wait_for_apis_async(*needs, timeout=APIS_TIMEOUT)
        except LightbusTimeout as error:
            reasons.append(str(error))
    return BusHealth(reasons)


def _own_reasons(client: BusClient) -> list[str]:
    """Return what is wrong with the worker in this process, if there is one."""
    worker = client.worker
    if worker is None or worker.publishes_only:
        return []
    if worker.parts is None:
        return ["The worker in this process is starting."]
    if worker.stopping.is_set():
        return ["The worker in this process is stopping."]
    reasons = [
        f"The listener {each.listener} has stopped, since its handler failed: {each.stopped_by}."
        for each in list(worker.parts.consumer.runners)
        if each.stopped_by is not None
    ]
    on_its_loop = asyncio._get_running_loop() is worker.loop  # then the loop is not blocked
    if not on_its_loop and worker.watchdog.silence > STALLED_AFTER:
        reasons.append(f"The event loop of the worker has been blocked for {worker.watchdog.silence:.1f} s.")
    return reasons
