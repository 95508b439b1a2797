from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers.clients import AuthApi
from lightbus.testing import memory_bus

pytest.importorskip("fastapi")

from fastapi import FastAPI
from starlette.types import Message

from lightbus.contrib.fastapi import Bus, get_bus, health_route, lifespan


async def get(app: FastAPI, path: str) -> tuple[int, str]:
    """Ask an ASGI program, without a server."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode()


def test_bus_is_a_parameter() -> None:
    """A function with `bus: Bus` gets the program's bus, or the override of a test."""

    async def main() -> None:
        async with memory_bus() as hub:
            bus = hub.create(service_name="web")
            bus.client.register_api(AuthApi())
            app = FastAPI(lifespan=lifespan(bus, worker=True), routes=[health_route(bus)])

            @app.get("/log-in")
            async def log_in(bus: Bus) -> Any:
                return await bus.auth.check_password.call_async(username="admin", password="secret")

            async with app.router.lifespan_context(app):
                assert await get(app, "/log-in") == (200, "true")
                assert (await get(app, "/health"))[0] == 200
                other = hub.create(service_name="other")
                app.dependency_overrides[get_bus] = lambda: other
                assert await get(app, "/log-in") == (200, "true")
                assert other.client.engine.identity.service == "other"

    asyncio.run(main())
