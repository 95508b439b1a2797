from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lightbus
from helpers.clients import AuthApi
from lightbus import UsageError
from lightbus.testing import MemoryBus, memory_bus

pytest.importorskip("starlette")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lightbus.contrib.starlette import get_bus, health_route, lifespan


async def get(app: Any, path: str) -> tuple[int, str]:
    """Ask an ASGI program, without a server."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode()


async def log_in(request: Request) -> PlainTextResponse:
    bus = await get_bus(request)
    return PlainTextResponse(str(await bus.auth.check_password.call_async(username="admin", password="secret")))


def served(hub: MemoryBus, **options: Any) -> Starlette:
    bus = hub.create(service_name="web")
    bus.client.register_api(AuthApi())
    routes = [Route("/", log_in), health_route(bus, needs=["auth"])]
    return Starlette(lifespan=lifespan(bus, **options), routes=routes)


def test_worker_lives_as_long_as_the_program() -> None:
    """With `worker=True` the program serves its own calls; the worker ends with it, and can be started again."""

    async def main() -> None:
        async with memory_bus() as hub:
            app = served(hub, worker=True)
            for _ in range(2):
                async with app.router.lifespan_context(app):
                    assert await get(app, "/") == (200, "True")
                    assert await get(app, "/health") == (200, '{"ready":true,"reasons":[]}')
                status, body = await get(app, "/health")
                assert status == 503
                assert "no peer advertised auth" in json.loads(body)["reasons"][0]

    asyncio.run(main())


def test_worker_that_cannot_start_ends_the_program() -> None:
    """An exception of a worker's hook is raised at the program's start, and nothing is left running."""

    async def main() -> None:
        async with memory_bus() as hub:
            bus = hub.create()

            @bus.client.on_start
            def fail() -> None:
                raise ValueError("no settings")

            app = Starlette(lifespan=lifespan(bus, worker=True))
            with pytest.raises(ValueError, match="no settings"):
                async with app.router.lifespan_context(app):
                    pass
            assert not bus.client.is_worker

    asyncio.run(main())


def test_lifespan_of_the_programs_own() -> None:
    """It runs inside that of the bus, and its state is the program's state."""
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, int]]:
        seen.append("begins")
        yield {"pool": 3}
        seen.append("ends")

    async def main() -> None:
        async with memory_bus() as hub:
            app = served(hub, inner=own)
            async with app.router.lifespan_context(app) as state:
                assert state == {"pool": 3}
            assert seen == ["begins", "ends"]

    asyncio.run(main())


def test_program_without_a_bus() -> None:
    """If the lifespan is missing, or did not run, the error says what to write."""
    app = Starlette(routes=[Route("/", log_in)])
    with pytest.raises(UsageError, match=r"lifespan=.*with TestClient\(app\)"):
        asyncio.run(get(app, "/"))


def test_listener_that_has_stopped() -> None:
    """A process with a stopped listener is not ready, with the reason."""

    async def main() -> None:
        async with memory_bus() as hub:
            bus = hub.create(service_name="web")
            bus.client.register_api(AuthApi())
            bus.auth.user_registered.listen(fail, listener_name="fails", max_deliveries=1)
            app = Starlette(lifespan=lifespan(bus, worker=True), routes=[health_route(bus)])
            async with app.router.lifespan_context(app):
                await bus.auth.user_registered.fire_async(username="ada")
                async with asyncio.timeout(60):
                    while (await get(app, "/health"))[0] == 200:
                        await asyncio.sleep(0.01)
                assert "The listener fails of auth.user_registered has stopped" in (await get(app, "/health"))[1]

    def fail(message: lightbus.EventMessage, username: str) -> None:
        raise ValueError("never")

    asyncio.run(main())
