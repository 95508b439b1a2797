from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import lightbus
from helpers import Door, Processes, wait_until
from helpers.http import ask, free_port, is_open
from lightbus import Api, BusPath, Event, EventMessage, LightbusWorkerError, OnError
from lightbus.exceptions import InvalidConfiguration
from lightbus.plugins.opentelemetry import OpenTelemetryPlugin
from lightbus.testing import MemoryBus, memory_bus

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex03_shop"


class Traces:
    """The spans that a test makes, by their names; and the plugin that makes them."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.plugin = OpenTelemetryPlugin(tracer_provider=self.provider, meter_provider=self.meters)

    def wait_for(self, count: int) -> list[ReadableSpan]:
        """Return the spans when this many have ended, in the order of their beginning."""
        wait_until(lambda: len(self.exporter.get_finished_spans()) >= count)
        spans = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        assert len(spans) == count
        return spans

    def measured(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return the recorded metrics: by name the attributes of each series."""
        data = self.reader.get_metrics_data()
        assert data is not None
        [scope] = data.resource_metrics[0].scope_metrics
        return {
            metric.name: [dict(point.attributes or {}) for point in metric.data.data_points] for metric in scope.metrics
        }


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"

    def check_password(self, username: str) -> bool:
        return {"sally": True}[username]

    async def check_later(self, username: str) -> bool:
        return {"sally": True}[username]


class ShopApi(Api):
    class Meta:
        name = "shop"

    def __init__(self, bus: BusPath) -> None:
        self.bus = bus

    def order(self, username: str) -> None:
        self.bus.auth.check_password(username=username)
        self.bus.auth.user_registered(username=username)

    async def order_later(self, username: str) -> None:
        await self.bus.auth.check_password.call_async(username=username)
        await self.bus.auth.user_registered.fire_async(username=username)

    async def order_behind(self, username: str) -> None:
        self.task = asyncio.create_task(self.order_later(username))


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def auth(hub: MemoryBus, traces: Traces) -> BusPath:
    bus = hub.create(service_name="auth", plugins=[traces.plugin])
    bus.client.register_api(AuthApi())
    return bus


@pytest.fixture
def caller(hub: MemoryBus, traces: Traces) -> BusPath:
    return hub.create(service_name="web", plugins=[traces.plugin])


def ids(span: ReadableSpan) -> tuple[int, int | None, int]:
    """Return trace, parent and own id of a span."""
    context = span.context
    assert context is not None
    return context.trace_id, None if span.parent is None else span.parent.span_id, context.span_id


def assert_is_chain(*spans: ReadableSpan) -> None:
    """Assert that each is the parent of the next, in one trace."""
    for parent, child in itertools.pairwise(spans):
        assert ids(child)[0] == ids(parent)[0]
        assert ids(child)[1] == ids(parent)[2]


@pytest.mark.parametrize("procedure", ["check_password", "check_later"])
def test_call_is_a_client_span_with_a_server_span_below(
    hub: MemoryBus, auth: BusPath, caller: BusPath, traces: Traces, door: Door, procedure: str
) -> None:
    """It is a span of its caller and one of its worker below that, named as the conventions say, and measured."""
    hub.start(auth)
    door.call(getattr(caller.auth, procedure), username="sally")
    client, server = traces.wait_for(2)
    assert (client.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert client.name == server.name == f"auth/{procedure}"
    assert_is_chain(client, server)
    for span in (client, server):
        assert dict(span.attributes or {}) == {"rpc.system.name": "lightbus", "rpc.method": f"auth/{procedure}"}
    measured = traces.measured()
    assert (
        measured["rpc.client.call.duration"] == measured["rpc.server.call.duration"] == [dict(client.attributes or {})]
    )


def test_a_call_that_fails(hub: MemoryBus, auth: BusPath, caller: BusPath, traces: Traces, door: Door) -> None:
    """Both spans are errors, with the exception that each side has, and its class."""
    hub.start(auth)
    with pytest.raises(LightbusWorkerError):
        door.call(caller.auth.check_password, username="harry")
    client, server = traces.wait_for(2)
    for span in (client, server):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "KeyError"
    assert [event.name for event in server.events] == ["exception"]


@pytest.mark.parametrize("procedure", ["order", "order_later", "order_behind"])
def test_one_trace_through_nested_calls_and_events(
    hub: MemoryBus, auth: BusPath, caller: BusPath, traces: Traces, door: Door, procedure: str
) -> None:
    """Calls and events of a handler, also of a task it leaves running, belong to the trace of its call."""
    shop = hub.create(service_name="shop", plugins=[traces.plugin])
    shop.client.register_api(ShopApi(shop))
    heard = []
    auth.auth.user_registered.listen(lambda message: heard.append(message.trace), listener_name="greet")
    hub.start(auth, shop)
    door.call(getattr(caller.shop, procedure), username="sally")
    spans = {(span.name, span.kind): span for span in traces.wait_for(6)}
    order = f"shop/{procedure}"
    server = spans[order, SpanKind.SERVER]
    check = "auth/check_password"
    assert_is_chain(spans[order, SpanKind.CLIENT], server, spans[check, SpanKind.CLIENT], spans[check, SpanKind.SERVER])
    fired = spans["send auth.user_registered", SpanKind.PRODUCER]
    handled = spans["process auth.user_registered", SpanKind.CONSUMER]
    assert_is_chain(server, fired, handled)
    [link] = handled.links
    assert link.context.span_id == ids(fired)[2]
    assert (handled.attributes or {})["messaging.consumer.group.name"] == "auth-greet"
    assert f"{ids(fired)[0]:032x}" in heard[0]["traceparent"]


def test_a_redelivered_event(hub: MemoryBus, auth: BusPath, traces: Traces, door: Door) -> None:
    """Each handling is a span below the firing's: the failed one an error, the later one with its number."""

    def greet(message: EventMessage) -> None:
        if not message.redelivered:
            raise ValueError("once")

    auth.auth.user_registered.listen(greet, listener_name="greet", on_error=OnError.RETRY)
    hub.start(auth)
    door.fire(auth.auth.user_registered, username="sally")
    fired, first, second = traces.wait_for(3)
    assert_is_chain(fired, first)
    assert_is_chain(fired, second)
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    deliveries = [(span.attributes or {})["messaging.lightbus.delivery_count"] for span in (first, second)]
    assert deliveries == [1, 2]
    assert {series["messaging.destination.name"] for series in traces.measured()["messaging.process.duration"]} == {
        "auth.user_registered"
    }


def test_an_event_that_is_handed_off(
    hub: MemoryBus, auth: BusPath, caller: BusPath, traces: Traces, door: Door
) -> None:
    """An event that another process publishes is in the trace of its sender; so is each of several."""
    auth.auth.user_registered.listen(lambda message: None, listener_name="greet")
    hub.start(auth)
    door.fire(caller.auth.user_registered, username="sally")
    fired, handled = traces.wait_for(2)
    assert_is_chain(fired, handled)
    traces.exporter.clear()
    door.fire_many(caller.auth.user_registered, [{"username": "sally"}, {"username": "harry"}])
    spans = traces.wait_for(4)
    producers = {ids(span)[2] for span in spans if span.kind is SpanKind.PRODUCER}
    assert {ids(span)[1] for span in spans if span.kind is SpanKind.CONSUMER} == producers


def test_the_trace_of_a_program(hub: MemoryBus, auth: BusPath, caller: BusPath, traces: Traces, door: Door) -> None:
    """A call belongs to the program's current span; its outcome does not change that span."""
    hub.start(auth)
    with traces.provider.get_tracer("web").start_as_current_span("GET /"):
        caller.auth.check_password(username="sally")
    web, client, server = traces.wait_for(3)
    assert_is_chain(web, client, server)


def test_a_trace_without_the_plugin(hub: MemoryBus, door: Door) -> None:
    """A given context is passed with calls and events, to hooks and handlers, and to their own calls."""
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}
    found: list[Any] = []
    auth, shop = hub.create(service_name="auth"), hub.create(service_name="shop")
    auth.client.register_api(AuthApi())
    shop.client.register_api(ShopApi(shop))
    auth.client.before_rpc_execution(lambda rpc_message: found.append(rpc_message.trace))

    async def greet(message: EventMessage) -> None:
        found.extend([message.trace, lightbus.current_trace()])

    auth.auth.user_registered.listen(greet, listener_name="greet")
    hub.start(auth, shop)
    door.call(hub.create().shop.order_later, username="sally", bus_options={"trace": trace})
    wait_until(lambda: len(found) == 3)
    assert found == [trace] * 3
    door.fire(hub.create().auth.user_registered, username="sally", bus_options={"trace": {"traceparent": "x"}})
    wait_until(lambda: len(found) == 5)
    assert found[3:] == [{"traceparent": "x"}] * 2
    door.fire(hub.create().auth.user_registered, username="sally")
    wait_until(lambda: len(found) == 7)
    assert found[5:] == [{}, {}]


def test_internal_calls_are_no_spans(hub: MemoryBus, auth: BusPath, caller: BusPath, traces: Traces) -> None:
    """What tools ask a worker is not the application's."""
    hub.start(auth)
    peer = auth.client.engine.identity.instance
    caller.client.wait_for_apis("auth")
    caller.client.call_rpc_blocking("internal.peer", "ping", {}, {"peer": peer})
    assert traces.exporter.get_finished_spans() == ()


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.delitem(sys.modules, "lightbus.plugins.opentelemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(InvalidConfiguration, match=r"pip install 'lightbus\[otel\]'"):
        __import__("lightbus.plugins.opentelemetry")


SET_UP = """
import json, os
from opentelemetry import trace
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open(os.environ["SPANS"], "a") as file:
            for span in spans:
                context = span.get_span_context()
                parent = span.parent and f"{span.parent.span_id:016x}"
                told = [span.name, f"{context.trace_id:032x}", f"{context.span_id:016x}", parent]
                file.write(json.dumps(told) + "\\n")
        return SpanExportResult.SUCCESS

provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(ToFile()))
trace.set_tracer_provider(provider)

answer = Flask.wsgi_app

def traced(self, environ, start_response):
    name = environ["REQUEST_METHOD"] + " " + environ["PATH_INFO"]
    with trace.get_tracer("web").start_as_current_span(name):
        return answer(self, environ, start_response)

Flask.wsgi_app = traced
"""


@pytest.mark.new_interpreters
def test_the_shop_is_one_trace(processes: Processes, tmp_path: Path) -> None:
    """In the shop, three services in three processes, an upload is one trace: from the request to the last listener."""
    example = Path(shutil.copytree(EXAMPLE, tmp_path / "shop"))
    (tmp_path / "sitecustomize.py").write_text(SET_UP)
    (tmp_path / "settings.yaml").write_text("plugins: {opentelemetry: {enabled: true}}")
    spans = tmp_path / "spans"
    environment = {
        "PYTHONPATH": str(tmp_path),
        "SPANS": str(spans),
        "LIGHTBUS_CONFIG": str(tmp_path / "settings.yaml"),
        "THUMBNAILS": str(tmp_path),
    }
    for name in ("images", "dashboard"):
        processes.worker(cwd=example / name, env=environment).wait_for_line("Ready")
    port = free_port()
    processes.python("web.py", str(port), cwd=example / "shop", env=environment, name="web")
    wait_until(lambda: is_open(port), 20)
    picture = b"P6 64 32 255\n" + bytes(range(256)) * 24
    assert ask(f"http://127.0.0.1:{port}/images", picture)[0] == 202
    assert ask(f"http://127.0.0.1:{port}/products/lamp")[0] == 200

    def told() -> dict[str, list[str]]:
        rows = [json.loads(line) for line in spans.read_text().splitlines()] if spans.exists() else []
        return {row[0]: row[1:] for row in rows}

    expected = {
        "POST /images": ["send store.image_uploaded", "process store.image_uploaded"],
        "GET /products/lamp": ["send store.page_viewed", "process store.page_viewed"],
    }
    wait_until(lambda: len(told()) == 6, 20, what="each step has ended")
    found = told()
    for request, steps in expected.items():
        above = request
        for step in steps:
            assert found[step][0] == found[request][0]
            assert found[step][2] == found[above][1]
            above = step
