"""The plugin `internal_state`: fires events when a worker starts, runs and stops, on the API `internal.state`.

Enabled by `plugins.internal_state.enabled`. Its events are best effort: they reach the processes that listen at the
moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import time
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from .. import config as settings
from ..config.fields import not_a_bool
from ..config.surroundings import host_name
from ..recurring import RecurringLog
from ..service.api import Api, Event, Parameter
from . import LightbusPlugin

__all__ = ["StateApi", "StatePlugin"]

logger = logging.getLogger("lightbus.state")

SETTLE_TIME = 0.5
"""Seconds from a worker's start to `server_started`: listeners need them to discover it and subscribe."""

FAREWELL_TIME = 0.05
"""Seconds from `server_stopped` to the worker's goodbye, which uses another socket and must not overtake it."""

_WHO = (Parameter("service_name", str), Parameter("process_name", str))
_STATE = (
    *_WHO,
    Parameter("metrics_enabled", bool),
    Parameter("api_names", list[str]),
    Parameter("listening_for", list[str]),
    Parameter("timestamp", float),
    Parameter("ping_interval", float),
)
_AS_IN_1_X = (
    *_STATE,
    Parameter("hostname", str),
    Parameter("pid", int),
    Parameter("max_memory_use", float),
    Parameter("ping_enabled", bool),
)
_OLD_NAMES = {
    "server_started": "worker_started",
    "server_ping": "worker_ping",
    "server_stopped": "worker_stopped",
}
"""Event -> its name in Lightbus 1.x; both are fired."""


class StateApi(Api):
    """
    `internal.state`: the events `worker_*` are those of 1.x, with some more fields.

    `timestamp` is in seconds since 1970, `ping_interval` in seconds, and `listening_for` has full event names:
    "auth.user_registered".
    """

    server_started = Event(_STATE, delivery="best_effort")
    server_ping = Event(_STATE, delivery="best_effort")
    server_stopped = Event((*_WHO, Parameter("timestamp", float)), delivery="best_effort")
    worker_started = Event(_AS_IN_1_X, delivery="best_effort")
    worker_ping = Event(_AS_IN_1_X, delivery="best_effort")
    worker_stopped = Event((*_WHO, Parameter("timestamp", float)), delivery="best_effort")

    class Meta:
        name = "internal.state"
        internal = True


class StatePlugin(LightbusPlugin):
    """
    Fires `server_started`, `server_ping` at an interval, and `server_stopped`. It never fails a worker.

    Args:
        service_name, process_name: the names in the events, if not those of the process.
        ping_enabled: whether to ping.
        ping_interval: seconds between two pings.

    """

    priority = 100

    class Config(BaseModel):
        """The plugin's settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

        ping_enabled: bool = Field(default=True, description="Ping at an interval.")
        ping_interval: Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(not_a_bool)] = Field(
            default=60.0, description="Seconds between two pings."
        )

    def __init__(
        self,
        service_name: str | None = None,
        process_name: str | None = None,
        ping_enabled: bool = True,
        ping_interval: float = 60.0,
    ) -> None:
        self._service_name, self._process_name = service_name, process_name
        self.ping_enabled = ping_enabled
        self.ping_interval = ping_interval
        self._failures = RecurringLog(logger)
        self._reporting: asyncio.Task[None] | None = None  # of the running worker

    @classmethod
    def from_config(
        cls, *, config: settings.Config, ping_enabled: bool = True, ping_interval: float = 60.0
    ) -> StatePlugin:
        """Make the plugin with the settings of `plugins.internal_state`."""
        return cls(ping_enabled=ping_enabled, ping_interval=ping_interval)

    async def before_worker_start(self, *, client: Any) -> None:
        """Register `internal.state`."""
        if StateApi.Meta.name not in client.api_registry.names():
            # Not by register_api: that would make the worker announce itself at once, before it is ready.
            api = StateApi()
            client.api_registry.add(api)
            client.schema.add_api(api)

    async def on_start(self, *, client: Any) -> None:
        """Start the task that fires the events."""
        self._reporting = asyncio.create_task(self._report(client, started_at=time.time()))

    async def on_stop(self, *, client: Any) -> None:
        """Stop the task, and fire `server_stopped`."""
        reporting, self._reporting = self._reporting, None
        if reporting is None:
            return
        reporting.cancel()
        await asyncio.wait([reporting])
        await self._fire(client, "server_stopped", timestamp=time.time())
        await asyncio.sleep(FAREWELL_TIME)

    async def _report(self, client: Any, *, started_at: float) -> None:
        await asyncio.sleep(SETTLE_TIME)
        await self._fire(client, "server_started", timestamp=started_at, **self._state(client))
        while self.ping_enabled:
            await asyncio.sleep(self.ping_interval)
            await self._fire(client, "server_ping", timestamp=time.time(), **self._state(client))

    def _state(self, client: Any) -> dict[str, Any]:
        listening_for = {f"{listener.api}.{event}" for listener in client.listeners for event in listener.events}
        return {
            "metrics_enabled": "internal.metrics" in client.api_registry.names(),
            "api_names": [api.meta.name for api in client.api_registry.public()],
            "listening_for": sorted(listening_for),
            "ping_interval": self.ping_interval,
        }

    def _host(self) -> dict[str, Any]:
        """Return the further fields of the events of 1.x."""
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB, but for macOS
        return {
            "hostname": host_name(),
            "pid": os.getpid(),
            "max_memory_use": used / 1024 if sys.platform != "darwin" else used / 1024**2,
            "ping_enabled": self.ping_enabled,
        }

    async def _fire(self, client: Any, name: str, **kwargs: Any) -> None:
        who = {
            "service_name": self._service_name or client.service_name,
            "process_name": self._process_name or client.process_name,
        }
        more = {} if name == "server_stopped" else self._host()
        try:
            await client.fire_event(StateApi.Meta.name, name, {**who, **kwargs})
            await client.fire_event(StateApi.Meta.name, _OLD_NAMES[name], {**who, **kwargs, **more})
        except Exception as error:  # also an error of a user's hook: none may stop the worker
            self._failures.log(name, logging.WARNING, "%s.%s was not fired: %s", StateApi.Meta.name, name, error)
        else:
            self._failures.recovered(name)
