"""The plugin `internal_metrics`: fires events about each call and event, on the API `internal.metrics`.

Enabled by `plugins.internal_metrics.enabled`. Its events are best effort: they reach the processes that listen at the
moment. They contain arguments and results, which every listener can read.
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
"""The most metrics queued before further ones are dropped: about a second of a worker's full load."""

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

    `timestamp` is in seconds since 1970. The metrics of one call on one side, or of one event, have the same id.
    `error` is the class of the exception with which a call failed, whose text is the `result` then, or empty.
    `rpc_response_received` is the end of a call for its caller, even without a response.
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
    Fires an event at each step of a call and of an event, except for APIs named `internal.*`, its own included.

    The hooks only queue the metrics; the engine's loop fires them. So no call waits for a metric, or fails with one.
    In a process without a worker, the metrics are handed off to a worker with this plugin, or dropped without one.

    Args:
        service_name, process_name: the names in the events, if not those of the process.

    Attributes:
        dropped: the number of metrics that were not fired.

    """

    priority = 110

    def __init__(self, service_name: str | None = None, process_name: str | None = None) -> None:
        self.dropped = 0
        self._service_name, self._process_name = service_name, process_name
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._firing_on: asyncio.AbstractEventLoop | None = None
        """The loop that is emptying the queue. It changes after a fork, and when the engine moves to another loop."""

    @classmethod
    def from_config(cls, *, config: settings.Config) -> MetricsPlugin:
        """Make the plugin. It has no settings."""
        return cls()

    async def before_worker_start(self, *, client: Any) -> None:
        """Register `internal.metrics`."""
        if MetricsApi.Meta.name not in client.api_registry.names():
            # Not by register_api: that would make the worker announce itself at once, before it is ready.
            api = MetricsApi()
            client.api_registry.add(api)
            client.schema.add_api(api)

    async def on_stop(self, *, client: Any) -> None:
        """Fire the queued metrics."""
        await self._fire_all(client)

    # The caller's side

    async def before_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """Queue the metric of a call to be sent."""
        self._note_call(client, "rpc_call_sent", rpc_message, kwargs=dict(rpc_message.kwargs))

    async def after_rpc_call(self, *, rpc_message: RpcMessage, result_message: ResultMessage, client: Any) -> None:
        """Queue the metric of a call that has ended."""
        self._note_call(client, "rpc_response_received", rpc_message, error=_error(result_message))

    async def after_event_sent(self, *, event_message: EventMessage, client: Any) -> None:
        """Queue the metric of a fired event."""
        self._note_event(client, "event_fired", event_message)

    # The worker's side

    async def before_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """Queue the metric of a received call."""
        self._note_call(client, "rpc_call_received", rpc_message)

    async def after_rpc_execution(self, *, rpc_message: RpcMessage, result_message: ResultMessage, client: Any) -> None:
        """Queue the metric of an executed call, whose result is sent next."""
        result = str(result_message.result) if result_message.error else result_message.result
        self._note_call(client, "rpc_response_sent", rpc_message, error=_error(result_message), result=result)

    async def before_event_execution(self, *, event_message: EventMessage, client: Any) -> None:
        """Queue the metric of an event that a listener gets."""
        self._note_event(client, "event_received", event_message)

    async def after_event_execution(self, *, event_message: EventMessage, client: Any) -> None:
        """Queue the metric of an event that a listener has handled."""
        self._note_event(client, "event_processed", event_message)

    # Queueing, in any thread and on any loop

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
            self._drop(1, f"{MAX_QUEUED} are queued already")
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
            self._firing_on = None  # a metric queued from now on starts a new run

    async def _fire_all(self, client: Any) -> None:
        while self._queue:
            name, kwargs = self._queue.popleft()
            try:
                await client.fire_event(MetricsApi.Meta.name, name, kwargs)
            except NotReachable as error:  # nobody takes them: drop the queued ones, too
                self._drop(1 + len(self._queue), str(error))
                self._queue.clear()
            except Exception as error:  # an argument that cannot be sent, a user's hook: the next one may succeed
                self._drop(1, str(error))

    def _drop(self, count: int, reason: str) -> None:
        if not self.dropped:
            logger.info("Metrics are dropped, for the first time: %s", reason)
        self.dropped += count


def _error(message: ResultMessage) -> str:
    return type(message.result).__name__ if message.error else ""
