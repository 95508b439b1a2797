"""The plugin `opentelemetry`: spans and metrics of calls and events. Needs `pip install 'lightbus[otel]'`.

Names follow OpenTelemetry's semantic conventions for RPC and messaging. Each call and event carries the trace context
that the application's propagator writes (by default W3C's), so that everything a request causes is one trace.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from .. import __about__
from ..exceptions import InvalidConfiguration
from ..message import EventMessage, RpcMessage
from ..tracing import trace_of_execution
from . import LightbusPlugin
from .log_context import GroupNames

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise InvalidConfiguration(
        "Traces of OpenTelemetry need the package opentelemetry-api: pip install 'lightbus[otel]'. The application "
        "brings the SDK and an exporter."
    ) from error

__all__ = ["OpenTelemetryPlugin"]

SpanHook: TypeAlias = Iterator[None]

SYSTEM = "lightbus"


class OpenTelemetryPlugin(LightbusPlugin):
    """
    Makes a span for each call and each event on both sides, and measures their durations.

    | span | kind | for |
    |---|---|---|
    | `auth/check_password` | client, server | a call |
    | `send auth.user_registered` | producer | the firing of an event |
    | `process auth.user_registered` | consumer | each handling of an event, linked to the span that fired it |

    `internal.` APIs are left out.

    Args:
        tracer_provider, meter_provider: the providers; by default the global ones of the application.

    """

    priority = 100

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._groups = GroupNames()
        version = __about__.version()
        self._tracer = trace.get_tracer("lightbus", version, tracer_provider)
        meter = metrics.get_meter("lightbus", version, meter_provider)
        text = "How long {} took."
        self._client = meter.create_histogram("rpc.client.call.duration", "s", text.format("calls made"))
        self._server = meter.create_histogram("rpc.server.call.duration", "s", text.format("calls served"))
        self._sent = meter.create_histogram("messaging.client.operation.duration", "s", text.format("firing events"))
        self._processed = meter.create_histogram("messaging.process.duration", "s", text.format("handling events"))

    @contextmanager
    def around_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> SpanHook:
        """Trace a call that this process makes."""
        attributes = _of_call(rpc_message)
        with self._span(_name_of(rpc_message), SpanKind.CLIENT, attributes, self._client) as span:
            propagate.inject(rpc_message.trace, trace.set_span_in_context(span))
            yield

    @contextmanager
    def around_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> SpanHook:
        """Trace a call that this process serves, as part of the caller's trace."""
        if rpc_message.api_name.startswith("internal."):
            yield
            return
        context = propagate.extract(rpc_message.trace, Context())
        attributes = _of_call(rpc_message)
        with self._span(_name_of(rpc_message), SpanKind.SERVER, attributes, self._server, context) as span:
            _enter(span)
            yield

    @contextmanager
    def around_event_sent(self, *, event_message: EventMessage, client: Any) -> SpanHook:
        """Trace an event that this process fires."""
        if event_message.api_name.startswith("internal."):
            yield
            return
        attributes = _of_event(event_message, "send")
        name = f"send {event_message.canonical_name}"
        with self._span(name, SpanKind.PRODUCER, attributes, self._sent) as span:
            propagate.inject(event_message.trace, trace.set_span_in_context(span))
            yield

    @contextmanager
    def around_event_execution(self, *, event_message: EventMessage, listener_name: str, client: Any) -> SpanHook:
        """Trace each handling of an event, as part of the trace in which it was fired, linked to the firing."""
        if event_message.api_name.startswith("internal."):
            yield
            return
        context = propagate.extract(event_message.trace, Context())
        fired = trace.get_current_span(context).get_span_context()
        attributes = {
            **_of_event(event_message, "process"),
            "messaging.consumer.group.name": self._groups.of(client, event_message.api_name, listener_name),
            "messaging.lightbus.listener": listener_name,
            "messaging.lightbus.delivery_count": event_message.deliveries,
        }
        links = [Link(fired)] if fired.is_valid else []
        name = f"process {event_message.canonical_name}"
        with self._span(name, SpanKind.CONSUMER, attributes, self._processed, context, links) as span:
            _enter(span)
            yield

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        measured: metrics.Histogram,
        context: Context | None = None,
        links: list[Link] | None = None,
    ) -> Iterator[Span]:
        """Run the body in a span, which ends with its outcome. It is not made the current span here: see `_enter`."""
        span = self._tracer.start_span(name, context, kind, attributes, links)
        began = time.perf_counter()
        failed: dict[str, str] = {}
        try:
            yield span
        except BaseException as error:
            failed = {"error.type": _type_of(error)}
            span.record_exception(error)
            span.set_attributes(failed)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"[:1000]))
            raise
        finally:
            span.end()
            counted = {key: value for key, value in attributes.items() if key in MEASURED_BY}
            measured.record(time.perf_counter() - began, {**counted, **failed})


MEASURED_BY = {
    "rpc.system.name",
    "rpc.method",
    "messaging.system",
    "messaging.operation.name",
    "messaging.destination.name",
    "messaging.consumer.group.name",
}
"""The attributes of durations: only those with few values."""


def _enter(span: Span) -> None:
    """Make the span the current one of the handler. It is never detached: each execution has its own context."""
    context = trace.set_span_in_context(span)
    contexts.attach(context)
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    trace_of_execution.set(carrier)


def _name_of(message: RpcMessage) -> str:
    return f"{message.api_name}/{message.procedure_name}"


def _of_call(message: RpcMessage) -> dict[str, str | int]:
    return {"rpc.system.name": SYSTEM, "rpc.method": _name_of(message)}


def _of_event(message: EventMessage, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": message.canonical_name,
        "messaging.message.id": message.id,
    }


def _type_of(error: BaseException) -> str:
    """Return the class name of an error; for a remote handler's exception, its class there."""
    kind = type(error)
    name: str = getattr(error, "remote_type", "") or f"{kind.__module__}.{kind.__qualname__}"
    return name.removeprefix("builtins.")
