"""The plugin `internal_metrics`: tells on the bus of each call and event, on the API `internal.metrics`.

Enabled by `plugins.internal_metrics.enabled`. Its events are best effort: they reach whoever listens at the moment.
They carry arguments and results, so whoever may listen sees what is in them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from .. import config as settings
from ..exceptions import LightbusException, NotReachable
from ..message import EventMessage, ResultMessage, RpcMessage
from ..service.api import Api, Event, Parameter
from . import LightbusPlugin

__all__ = ["MetricsApi", "MetricsPlugin"]

logger = logging.getLogger("lightbus.metrics")

MAX_QUEUED = 10_000
"""Metrics that wait to be fired before further ones are dropped: a second or so of what a worker can handle."""

_FROM = (Parameter("service_name", str), Parameter("process_name", str), Parameter("timestamp", float))
_RPC = (*_FROM, Parameter("id", str), Parameter("api_name", str), Parameter("procedure_name", str))
_ERROR = Parameter("error", str)
_EVENT = (
    *_FROM,
    Parameter("event_id", str),
    Parameter("api_name", str),
    Parameter("event_name", str),
    Parameter("kwargs", dict),
)


class MetricsApi(Api):
    """
    `internal.metrics`.

    `timestamp` is in seconds since 1970. What belongs to one call on one side, or to one event, has the same id.
    `error` is the class of the exception that a call ended with, and empty where it succeeded; `result` is the text of
    that exception then. `rpc_response_received` is the end of a call for its caller, also where no response came.
    """

    rpc_call_sent = Event((*_RPC, Parameter("kwargs", dict)), delivery="best_effort")
    rpc_response_received = Event((*_RPC, _ERROR), delivery="best_effort")
    rpc_call_received = Event(_RPC, delivery="best_effort")
    rpc_response_sent = Event((*_RPC, _ERROR, Parameter("result", Any)), delivery="best_effort")
    event_fired = Event(_EVENT, delivery="best_effort")
    event_received = Event(_EVENT, delivery="best_effort")
    event_processed = Event(_EVENT, delivery="best_effort")

    class Meta:
        name = "internal.metrics"
        internal = True


class MetricsPlugin(LightbusPlugin):
    """
    Fires an event at each step of a call and of an event; not for those of APIs named `internal.*`, its own included.

    The hooks only note what happened; the engine's loop fires it. So no call waits for a metric or fails for one.
    In a process that is no worker the metrics are handed to a worker that has this plugin, and dropped where none has.

    Args:
        service_name, process_name: what the events say of the process, where that is not what it is called.

    Attributes:
        dropped: metrics that were not fired.

    """

    priority = 110

    def __init__(self, service_name: str | None = None, process_name: str | None = None) -> None:
        self.dropped = 0
        self._service_name, self._process_name = service_name, process_name
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._firing_on: asyncio.AbstractEventLoop | None = None
        """The loop on which the queue is being emptied. After a fork, or when the engine has moved, it is another."""

    @classmethod
    def from_config(cls, *, config: settings.Config) -> MetricsPlugin:
        """Make the plugin. It has no settings."""
        return cls()

    async def before_worker_start(self, *, client: Any) -> None:
        """Offer `internal.metrics`."""
        if MetricsApi.Meta.name not in client.api_registry.names():
            # Not by register_api: that would have the worker announce itself at once, and it is not ready.
            api = MetricsApi()
            client.api_registry.add(api)
            client.schema.add_api(api)

    async def on_stop(self, *, client: Any) -> None:
        """Fire what is left."""
        await self._fire_all(client)

    # On the side of the caller

    async def before_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """A call is sent."""
        self._note_call(client, "rpc_call_sent", rpc_message, kwargs=dict(rpc_message.kwargs))

    async def after_rpc_call(self, *, rpc_message: RpcMessage, result_message: ResultMessage, client: Any) -> None:
        """It has ended."""
        self._note_call(client, "rpc_response_received", rpc_message, error=_error(result_message))

    async def after_event_sent(self, *, event_message: EventMessage, client: Any) -> None:
        """An event was fired."""
        self._note_event(client, "event_fired", event_message)

    # On the side of the worker

    async def before_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """A call has arrived."""
        self._note_call(client, "rpc_call_received", rpc_message)

    async def after_rpc_execution(self, *, rpc_message: RpcMessage, result_message: ResultMessage, client: Any) -> None:
        """Its result is sent."""
        result = str(result_message.result) if result_message.error else result_message.result
        self._note_call(client, "rpc_response_sent", rpc_message, error=_error(result_message), result=result)

    async def before_event_execution(self, *, event_message: EventMessage, client: Any) -> None:
        """An event has arrived at a listener."""
        self._note_event(client, "event_received", event_message)

    async def after_event_execution(self, *, event_message: EventMessage, client: Any) -> None:
        """A listener has handled an event."""
        self._note_event(client, "event_processed", event_message)

    # Noting, in any thread and on any loop

    def _note_call(self, client: Any, name: str, message: RpcMessage, **more: Any) -> None:
        if not message.api_name.startswith("internal."):
            called = {"id": message.id, "api_name": message.api_name, "procedure_name": message.procedure_name}
            self._note(client, name, {**called, **more})

    def _note_event(self, client: Any, name: str, message: EventMessage) -> None:
        if not message.api_name.startswith("internal."):
            fired = {"event_id": message.id, "api_name": message.api_name, "event_name": message.event_name}
            self._note(client, name, {**fired, "kwargs": dict(message.kwargs)})

    def _note(self, client: Any, name: str, kwargs: dict[str, Any]) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._drop(1, f"{MAX_QUEUED} wait already")
            return
        try:
            _, loop = client.engine.loop_host.ensure()
            who = {
                "service_name": self._service_name or client.service_name,
                "process_name": self._process_name or client.process_name,
                "timestamp": time.time(),
            }
            self._queue.append((name, {**who, **kwargs}))
            if self._firing_on is not loop:
                self._firing_on = loop
                client.engine.loop_host.run(lambda node: self._empty(client))
        except LightbusException as error:  # the bus is closed, or mocked
            self._drop(1, str(error))

    # Firing, on the engine's loop

    async def _empty(self, client: Any) -> None:
        while self._queue:
            await self._fire_all(client)
            self._firing_on = None  # whoever notes something from now on wakes us; and what came just before is seen

    async def _fire_all(self, client: Any) -> None:
        while self._queue:
            name, kwargs = self._queue.popleft()
            try:
                await client.fire_event(MetricsApi.Meta.name, name, kwargs)
            except NotReachable as error:  # nobody wants them: nor those that wait
                self._drop(1 + len(self._queue), str(error))
                self._queue.clear()
            except Exception as error:  # an argument that cannot be sent, a hook of the user's: the next may be fine
                self._drop(1, str(error))

    def _drop(self, count: int, reason: str) -> None:
        if not self.dropped:
            logger.info("Metrics are dropped, for the first time: %s", reason)
        self.dropped += count


def _error(message: ResultMessage) -> str:
    return type(message.result).__name__ if message.error else ""
