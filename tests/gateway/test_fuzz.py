"""Any request gets a valid answer, and the gateway keeps running."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from helpers import examples
from helpers.asgi import MemoryConnection, ask_app
from lightbus import BusPath
from lightbus.gateway import app as application
from lightbus.gateway.access import Rules
from lightbus.gateway.app import Gateway
from lightbus.gateway.guard import HEADERS
from lightbus.gateway.options import GatewayOptions
from lightbus.testing import MemoryBus

from .conftest import CLIENTS, ONLY_LISTENS, TOKEN

STATUS = {200, 202, 400, 401, 403, 404, 405, 413, 414, 415, 421, 422}
"""What a request may be answered with where nothing is wrong but the request; a 500 is an internal error."""

METHODS = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "get", "", "A" * 50]
APIS = ["shop", "shop.other", "internal.peer", "*", "", "..", "shop\x00", "SHOP", "ß", "[a-z]", "a" * 300]
MEMBERS = ["price", "ordered", "seen", "secret", "nothing", "*", "", "..", "__class__", "do", "price/", "\n", "%"]
TEXTS = ["", "0", "-1", "nan", "1e999", "ü", "a" * 5000, "0.5", "null", "application/json", "text/plain", "*", "\x7f",
         "5.0@0123456789abcdef-1", "@", "http://127.0.0.1:8420", "evil.example", "2026-01-31T12:00:00Z"]  # fmt: skip
NAMES = ["host", "origin", "authorization", "content_type", "content_length", "transfer_encoding", "last_event_id",
         "lightbus_timeout", "traceparent", "cookie", "x_http_method_override", "accept"]  # fmt: skip
VALUES: list[Any] = [None, True, 0, -1, 1.5, 2**70, "lamp", "", "\ud800", [], {}, [[]], {"a": 1}, "\0", "a" * 3000]
DAMAGE = [b"", b"{", b"}", b"\xff", b"NaN", b"1e999", b'"', b"[" * 2000, b"\\u0000", b",", b":", b"\x00"]


def body_of(random: Random) -> bytes:
    """Return arguments, more or less."""
    names = ["product", "count", "self", "", "seconds"]
    value = {random.choice(names): random.choice(VALUES) for _ in range(random.randrange(3))}
    body = bytearray(json.dumps(value).encode())
    for _ in range(random.randrange(3)):
        at = random.randrange(len(body) + 1)
        if random.random() < 0.5:
            body[at:at] = random.choice(DAMAGE)
        else:
            del body[at : at + random.randrange(5)]
    return bytes(body)


def request_of(random: Random) -> tuple[str, dict[str, Any]]:
    """Return a request that might be right, and mostly is not."""
    path = f"/api/{random.choice(APIS)}/{random.choice(MEMBERS)}"
    if random.random() < 0.1:
        path = random.choice(["/", "/openapi.json", "/page.js", "/api", "//", "", "/api/shop/price/more"])
    if random.random() < 0.3:
        path += f"?since={random.choice(TEXTS)}"
    headers = {random.choice(NAMES): random.choice(TEXTS) for _ in range(random.randrange(3))}
    tokens = [TOKEN, TOKEN, TOKEN, ONLY_LISTENS, "none"]
    likely = {"authorization": f"Bearer {random.choice(tokens)}", "content_type": "application/json"}
    method = random.choice(METHODS) if random.random() < 0.3 else random.choice(["GET", "POST", "POST"])
    headers = {name: value.encode().decode("latin-1") for name, value in {**likely, **headers}.items()}
    return path, {"method": method, "body": body_of(random), **headers}


@asynccontextmanager
async def gateway_of(hub: MemoryBus) -> AsyncIterator[Gateway]:
    bus = MemoryConnection(hub)
    options = GatewayOptions(
        rules=Rules.read(["shop.price", "shop.ordered", "shop.seen"]), clients=CLIENTS, rate=0, max_body=2500
    )
    gateway = Gateway(bus, options)
    try:
        await bus.discover_all()
        yield gateway
    finally:
        await gateway.close()
        await bus.close()


async def fault_of(gateway: Gateway, path: str, given: dict[str, Any]) -> str:
    """Return what is wrong with the answer to a request; empty if nothing is."""
    answer = await ask_app(gateway.app, path, enough=lambda body: b"retry:" in body, **given)
    if answer.status not in STATUS:
        return f"is answered with {answer.status}: {answer.body!r:.300}"
    if any(answer.headers.get(name.lower()) != value for name, value in HEADERS.items()):
        return f"has not all headers: {answer.headers}"
    if answer.status >= 400 and given["method"] != "HEAD":
        told = json.loads(answer.body)
        if answer.headers["content-type"] != "application/problem+json" or told["status"] != answer.status:
            return f"is no problem as it should be: {answer.body!r:.300}"
    if b"nobody may know" in answer.body:
        return "tells what is not open"
    return ""


def test_any_request_has_an_answer(hub: MemoryBus, shop: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """Each answer is one of the documented ones. A seed that finds a fault is printed."""
    seed = int.from_bytes(os.urandom(4), "big")
    random = Random(seed)

    async def main() -> list[str]:
        found: list[str] = []
        async with gateway_of(hub) as gateway:
            for number in range(examples(10_000)):
                path, given = request_of(random)
                if fault := await fault_of(gateway, path, given):
                    found.append(f"seed {seed}, request {number}: {given['method']} {path!r} {given} {fault}")
            assert gateway.under_way.total() == gateway.streaming.count == 0
            right = await ask_app(
                gateway.app, "/api/shop/price", method="POST", body=b'{"product": "lamp"}',
                authorization=f"Bearer {TOKEN}", content_type="application/json",
            )  # fmt: skip
            assert right.body == b"40"
        return found

    assert asyncio.run(main()) == []
    assert not [record for record in caplog.records if record.name == application.logger.name and record.exc_info]
