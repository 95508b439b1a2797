"""The plugin `prometheus`: metrics of this process. Needs `pip install 'lightbus[prometheus]'`.

The counts that a worker keeps anyway are read at each scrape (`prometheus_worker.py`). Hooks measure only the rest:
calls and firings from the caller's side, and the time that listeners take.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field

from .. import config as settings
from ..exceptions import (
    InvalidConfiguration,
    LightbusTimeout,
    LightbusWorkerError,
    NotReachable,
    PeerBusy,
    PeerLost,
)
from ..message import EventMessage, RpcMessage
from ..rpc.statistics import BOUNDS
from . import LightbusPlugin
from .status_server import LOOPBACK, Answer, StatusServer

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
except ImportError as error:
    raise InvalidConfiguration(
        "Metrics of Prometheus need the package prometheus-client: pip install 'lightbus[prometheus]'"
    ) from error

from .prometheus_worker import WorkerCollector

__all__ = ["PrometheusPlugin", "outcome_of"]

logger = logging.getLogger("lightbus.metrics")

MetricsHook: TypeAlias = Iterator[None]

OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (LightbusWorkerError, "handler_error"),
    (PeerBusy, "busy"),
    (NotReachable, "unreachable"),  # before LightbusTimeout: some of these are timeouts, too
    (PeerLost, "lost"),
    (LightbusTimeout, "timeout"),
    (Exception, "error"),
)


def outcome_of(error: BaseException | None) -> str:
    """Return the outcome of a call or a firing, as the value of a label: `ok`, `timeout`, `busy`, ..., `cancelled`."""
    if error is None:
        return "ok"
    return next((outcome for kind, outcome in OUTCOMES if isinstance(error, kind)), "cancelled")


class _Instruments:
    """The metrics of one registry, made once and shared by all buses that use it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "lightbus_client_calls",
            "Calls that this process made, by outcome.",
            ["api", "procedure", "outcome"],
            registry=registry,
        )
        self.call_seconds = Histogram(
            "lightbus_client_call_duration_seconds",
            "How long calls took that this process made, in seconds.",
            ["api", "procedure"],
            buckets=BOUNDS,
            registry=registry,
        )
        self.fired = Counter(
            "lightbus_client_events_fired",
            "Events that this process fired, by outcome.",
            ["api", "event", "outcome"],
            registry=registry,
        )
        self.handling_seconds = Histogram(
            "lightbus_event_handling_duration_seconds",
            "How long listeners of this process took for an event, in seconds, including failed ones.",
            ["api", "event", "listener"],
            buckets=BOUNDS,
            registry=registry,
        )
        self.counting: WeakKeyDictionary[Any, PrometheusPlugin] = WeakKeyDictionary()
        """Client -> the one plugin that counts for it: a client may have several plugins with this registry (from the
        settings, `--metrics-port` and its program), and each call and event must count once."""
        self.worker = WorkerCollector()
        registry.register(self.worker)


_instruments: WeakKeyDictionary[CollectorRegistry, _Instruments] = WeakKeyDictionary()


class PrometheusPlugin(LightbusPlugin):
    """
    Counts and measures for Prometheus. All metrics, with names and units: docs/observability.md.

    Args:
        registry: where the metrics are registered; by default that of prometheus_client, which has the application's
            own metrics, too. If two workers of a process share one, it reports on the one started last.
        port: serve `/metrics` at this port while a worker runs; 0 for any free one. Not needed by a program that
            serves its registry anyway (`prometheus_client.start_http_server`, a route of its own).
        address: the address to listen on.

    Attributes:
        server: the HTTP server of the metrics, while a worker runs.
        asked_by: the setting that chose the port, for errors.

    """

    priority = 120

    class Config(BaseModel):
        """The plugin's settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

        port: int | None = Field(default=None, ge=0, le=65535, description="Serve /metrics at this port.")
        address: str = Field(default=LOOPBACK, description="Serve it on this address of the host.")

    def __init__(
        self, *, registry: CollectorRegistry | None = None, port: int | None = None, address: str = LOOPBACK
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self.server: StatusServer | None = None
        self.asked_by = "PrometheusPlugin(port=...)"
        self._place = None if port is None else (address, port)
        if self.registry not in _instruments:
            _instruments[self.registry] = _Instruments(self.registry)
        self._metrics = _instruments[self.registry]

    @classmethod
    def from_config(
        cls, *, config: settings.Config, port: int | None = None, address: str = LOOPBACK
    ) -> PrometheusPlugin:
        """Make the plugin with the settings of `plugins.prometheus`."""
        plugin = cls(port=port, address=address)
        plugin.asked_by = "plugins.prometheus.port"
        return plugin

    def page(self) -> Answer:
        """Return the metrics of the registry as text, for the program's own server."""
        return Answer(200, generate_latest(self.registry), CONTENT_TYPE_LATEST)

    async def before_worker_start(self, *, client: Any) -> None:
        """Start the server of the metrics, if there is a port."""
        if self._place is not None and self.server is None:
            self.server = StatusServer(*self._place, {"/metrics": self.page}, asked_by=self.asked_by)
            logger.info("Metrics at %s/metrics", self.server.url)

    async def after_worker_started(self, *, client: Any) -> None:
        """Report on this worker from now on."""
        self._metrics.worker.watch(client)

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Stop reporting on the worker, and the server."""
        self._metrics.worker.forget(client)
        server, self.server = self.server, None
        if server is not None:
            await asyncio.to_thread(server.stop)

    def around_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> AbstractContextManager[None] | None:
        """Measure a call that this process makes."""
        return self._call(rpc_message) if self._counts_for(client) else None

    def around_event_sent(self, *, event_message: EventMessage, client: Any) -> AbstractContextManager[None] | None:
        """Count an event that this process fires, except one stored in a database outbox, which may be rolled back."""
        if event_message.api_name.startswith("internal.") or not self._counts_for(client):
            return None
        return self._firing(event_message, is_kept=client.made_events.is_storing(event_message))

    def around_event_execution(
        self, *, event_message: EventMessage, listener_name: str, client: Any
    ) -> AbstractContextManager[None] | None:
        """Measure how long a listener takes."""
        return self._handling(event_message, listener_name) if self._counts_for(client) else None

    def _counts_for(self, client: Any) -> bool:
        return self._metrics.counting.setdefault(client, self) is self

    @contextmanager
    def _call(self, message: RpcMessage) -> MetricsHook:
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            api, procedure = message.api_name, message.procedure_name
            self._metrics.call_seconds.labels(api, procedure).observe(time.perf_counter() - began)
            self._metrics.calls.labels(api, procedure, outcome_of(error)).inc()

    @contextmanager
    def _firing(self, message: EventMessage, *, is_kept: bool) -> MetricsHook:
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            if error is not None or not is_kept:
                self._metrics.fired.labels(message.api_name, message.event_name, outcome_of(error)).inc()

    @contextmanager
    def _handling(self, message: EventMessage, listener: str) -> MetricsHook:
        began = time.perf_counter()
        try:
            yield
        finally:
            labels = message.api_name, message.event_name, listener
            self._metrics.handling_seconds.labels(*labels).observe(time.perf_counter() - began)
