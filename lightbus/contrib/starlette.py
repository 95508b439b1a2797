"""A bus in a Starlette or FastAPI program: started and stopped with the program, and a route for probes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ..exceptions import UsageError
from ..path import BusPath
from .health import bus_health_async

__all__ = ["get_bus", "health_route", "lifespan"]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(bus: BusPath, *, worker: bool = False, inner: Lifespan | None = None) -> Lifespan:
    """
    Return a lifespan for `FastAPI(lifespan=...)` and `Starlette(lifespan=...)`.

    Args:
        bus: the bus that `get_bus` returns while the program runs.
        worker: whether each process of the program runs a worker, too, on the program's loop. Without it other
            processes serve the calls: `lightbus run`.
        inner: the program's own lifespan, which runs inside this one.

    """

    @asynccontextmanager
    async def run_lifespan(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            app.state.lightbus = bus
            if worker:
                stack.push_async_callback(bus.client.stop_worker)
                await bus.client.start_worker()
            yield None if inner is None else await stack.enter_async_context(inner(app))

    return run_lifespan


async def get_bus(connection: HTTPConnection) -> BusPath:
    """Return the bus of the program that handles a request or websocket. Raises UsageError if it has none."""
    bus = getattr(connection.app.state, "lightbus", None)
    if not isinstance(bus, BusPath):
        raise UsageError(
            "This application has no bus: make it with lifespan=lightbus.contrib.starlette.lifespan(bus). In a test "
            "the lifespan runs within `with TestClient(app) as client:`."
        )
    return bus


def health_route(bus: BusPath, path: str = "/health", *, needs: Sequence[str] = ()) -> Route:
    """
    Return a route that answers 200, or 503 and the reasons, for `FastAPI(routes=[...])` and `Starlette(routes=[...])`.

    Args:
        bus: the bus.
        path: the path of the route.
        needs: APIs that peers must serve for a 200.

    """

    async def health(request: Request) -> JSONResponse:
        found = await bus_health_async(bus, needs)
        return JSONResponse(found.body, status_code=found.status)

    return Route(path, health)
