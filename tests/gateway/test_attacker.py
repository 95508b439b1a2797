"""Attacks on a served gateway, by raw sockets, since no HTTP client would send such requests."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from helpers.asgi import MemoryConnection, on_connection
from lightbus import BusPath
from lightbus.cli.support.connection import Connection
from lightbus.gateway.access import Rules
from lightbus.gateway.app import Gateway
from lightbus.gateway.options import GatewayOptions
from lightbus.testing import MemoryBus
from lightbus.web import bodies, serving
from lightbus.web.heads import MAX_HEAD

from .conftest import CLIENTS, TOKEN

Attack = Callable[[int], Any]
BEARER = f"Authorization: Bearer {TOKEN}"
JSON = "Content-Type: application/json"


@pytest.fixture
def attacked(hub: MemoryBus, shop: BusPath) -> Callable[..., Any]:
    """Return a function that serves a gateway, runs an attack on its port in a thread, and returns its result."""

    async def serve(bus: Connection, attack: Attack, options: GatewayOptions) -> Any:
        done = asyncio.Event()
        with serving.bound_socket(options.address, 0, "The gateway") as listening:
            gateway = Gateway(bus, options)
            task = asyncio.create_task(serving.serve(gateway, listening, done))
            try:
                return await asyncio.to_thread(attack, listening.getsockname()[1])
            finally:
                done.set()
                await task

    def run(attack: Attack, **given: Any) -> Any:
        rules = Rules.read(["shop.price", "shop.wait", "shop.ordered"])
        options = GatewayOptions(rules=rules, **{"clients": CLIENTS, "rate": 0, **given})
        return asyncio.run(on_connection(MemoryConnection(hub), lambda bus: serve(bus, attack, options)))

    return run


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that comes back until the connection ends."""
    with connected(port) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it was refused before all was sent
            connection.sendall(request)
        return to_the_end(connection)


def to_the_end(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def get(port: int, path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "Connection: close", "", ""]
    return exchange(port, "\r\n".join(lines).encode("latin-1"))


def post(port: int, path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}", "Connection: close"]
    return exchange(port, "\r\n".join([*lines, *headers, "", ""]).encode() + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


TRICKS = [
    "/api/shop/../internal.peer/info",
    "/api/shop/%2e%2e/internal.peer/info",
    "/api/shop%2f..%2finternal.peer/info",
    "/api/internal.peer/info",
    "/api/internal%2epeer/info",
    "/api/INTERNAL.PEER/info",
    "/api/shop/secret",
    "/api/shop/price%00secret",
    "/api/shop/%73ecret",
    "/api//shop/secret",
    "/api/shop/secret/",
    "/api/shop/price/../secret",
    "/api/shop.other/do",
    "/api/*/*",
    "/../../etc/passwd",
    "/page.js/../../options.py",
    "/%2e%2e/options.py",
    "/index.html",
    "/docs",
]


def test_no_path_leads_beyond_the_allowed_members(attacked: Any) -> None:
    """Neither GET nor POST reaches anything else, and no file is served but those of the page."""

    def attack(port: int) -> list[bytes]:
        return [post(port, path, b"{}", BEARER, JSON) for path in TRICKS] + [get(port, path, BEARER) for path in TRICKS]

    found = attacked(attack)
    assert {status(answer) for answer in found} <= {404, 405}
    assert not any(b"nobody may know" in answer or b"root:" in answer or b"import " in answer for answer in found)


def test_other_sites_get_nothing(attacked: Any) -> None:
    """Neither under their own host name that points here, nor from their page, nor by a form."""

    def attack(port: int) -> list[int]:
        rebound = f"GET /openapi.json HTTP/1.1\r\nHost: evil.example\r\n{BEARER}\r\nConnection: close\r\n\r\n"
        form = "Content-Type: text/plain"
        return [
            status(each)
            for each in (
                exchange(port, rebound.encode()),
                get(port, "/openapi.json", BEARER, "Origin: https://evil.example"),
                get(port, "/api/shop/ordered", BEARER, "Origin: null"),
                post(port, "/api/shop/price", b"{}", BEARER, JSON, "Origin: https://evil.example"),
                post(port, "/api/shop/price", b'{"product":"x"}', BEARER, form),
                post(port, "/api/shop/price", b'{"product":"x"}', JSON),
                get(port, "/api/shop/price", "Origin: https://evil.example", method="OPTIONS"),
            )
        ]

    assert attacked(attack) == [421, 403, 403, 403, 415, 401, 403]


def test_methods_are_what_they_say(attacked: Any) -> None:
    """No header turns one into another."""

    def attack(port: int) -> list[int]:
        override = "X-HTTP-Method-Override: POST"
        return [
            status(get(port, "/api/shop/price", BEARER, override)),
            status(get(port, "/api/shop/price?_method=POST", BEARER)),
            *(status(get(port, "/api/shop/price", BEARER, method=each)) for each in ("PUT", "DELETE", "TRACE", "get")),
        ]

    assert attacked(attack) == [405] * 6


def test_requests_within_requests(attacked: Any) -> None:
    """Bytes after a request are read as the next request, or the connection is closed."""

    def attack(port: int) -> list[bytes]:
        hidden = b"POST /api/shop/secret HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = f"POST /api/shop/price HTTP/1.1\r\nHost: localhost:{port}\r\n{BEARER}\r\n{JSON}\r\n"
        both = f"{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n".encode()
        twice = f"{head}Content-Length: 2\r\nContent-Length: 80\r\n\r\n{{}}".encode()
        folded = f"{head}X: 1\r\n Content-Length: 2\r\nConnection: close\r\n\r\n".encode()
        other = f"{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".encode()
        return [exchange(port, each + hidden) for each in (both, twice, other)] + [exchange(port, folded)]

    both, twice, other, folded = attacked(attack)
    assert b"application/problem+json" in twice
    assert b'"error": "bad_request"' in twice
    assert status(both) == 400
    assert status(twice) == 400
    assert status(other) in (400, 501)
    assert status(folded) in (400, 422)
    for answer in (both, twice, other):
        assert answer.count(b"HTTP/1.1 ") == 1


BODIES = [
    (b"", 422),
    (b"{", 400),
    (b"null", 400),
    (b"[]", 400),
    (b'{"product": NaN}', 400),
    (b'{"product": 1e999}', 400),
    (b'{"product": ' + b"[" * 100_000, 400),
    (b'{"product": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", 422),
    (b'{"product": "\xff"}', 400),
    (b'{"product": "\\ud800"}', 422),
    (b'{"product": ' + b"9" * 5000 + b"}", 400),
    (b'{"product": 1' + b"0" * 4000 + b"}", 422),
    (b'{"product": "lamp", "__class__": {}}', 422),
    (b'{"self": 1, "product": "lamp"}', 422),
    ('{"product": "lamp"}'.encode("utf-16"), 400),
]


def test_bodies_that_are_no_arguments(attacked: Any) -> None:
    """Each is answered as the client's fault; the gateway keeps running."""

    def attack(port: int) -> list[int]:
        found = [status(post(port, "/api/shop/price", body, BEARER, JSON)) for body, _ in BODIES]
        right = post(port, "/api/shop/price", b'{"product": "lamp"}', BEARER, JSON)
        return [*found, status(right)]

    assert attacked(attack) == [*(expected for _, expected in BODIES), 200]


def test_huge_bodies_are_not_read(attacked: Any) -> None:
    """Neither with a declared length, nor as endless chunks, nor without a token."""

    def attack(port: int) -> list[int]:
        said = f"POST /api/shop/price HTTP/1.1\r\nHost: localhost:{port}\r\n{JSON}\r\n"
        piece = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        long = exchange(port, f"{said}{BEARER}\r\nContent-Length: 10001\r\n\r\n".encode())
        endless = exchange(port, f"{said}{BEARER}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + piece * 4)
        stranger = exchange(port, f"{said}Content-Length: 10000\r\nConnection: close\r\n\r\n".encode())
        return [status(each) for each in (long, endless, stranger)]

    assert attacked(attack, max_body=10_000) == [413, 413, 401]


def test_huge_heads_are_refused(attacked: Any) -> None:
    """Endless heads and complete ones, too long paths and too long cursors."""

    def attack(port: int) -> list[int]:
        begun = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n".encode()
        return [
            status(exchange(port, begun + b"X: " + b"a" * (2 * MAX_HEAD))),
            status(get(port, "/", "X: " + "a" * 70_000)),
            status(get(port, "/api/shop/ordered?since=" + "a" * 5000, BEARER)),
            status(get(port, "/api/shop/ordered", BEARER, "Last-Event-ID: 0@" + "0123456789abcdef-1," * 1000)),
        ]

    endless, whole, *others = attacked(attack)
    assert endless == 400
    assert whole in (400, 431)  # by how much of it came at once
    assert others == [414, 400]


def test_slow_connections_are_ended(attacked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends nothing, or an endless head, is closed, also after an answered request."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.5)

    def attack(port: int) -> list[bytes]:
        whole = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        with ExitStack() as stack:
            slow = []
            for begun in ("", "POST /api", whole[:-2], whole + whole[:-2]):
                slow.append(stack.enter_context(connected(port)))
                with suppress(OSError):  # it was given up before, on a busy machine
                    slow[-1].sendall(begun.encode())
            return [to_the_end(each) for each in slow]

    *nothing, answered = attacked(attack)
    assert nothing == [b"", b"", b""]
    assert answered.count(b"HTTP/1.1 ") <= 1


def test_slow_bodies_are_given_up(attacked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends its body too slowly is refused; meanwhile others are answered."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)

    def attack(port: int) -> list[int]:
        head = f"POST /api/shop/price HTTP/1.1\r\nHost: localhost:{port}\r\n{BEARER}\r\n{JSON}\r\n"
        with connected(port) as slow:
            slow.sendall(f"{head}Content-Length: 5\r\nConnection: close\r\n\r\n1".encode())
            return [status(get(port, "/")), status(to_the_end(slow))]

    assert attacked(attack) == [200, 408]


def test_requests_without_a_token_are_rate_limited(attacked: Any) -> None:
    """Clients without a token are soon told to wait; those with one are served meanwhile."""

    def attack(port: int) -> tuple[list[int], int]:
        tried = [status(get(port, "/openapi.json", f"Authorization: Bearer guess-{each}")) for each in range(8)]
        return tried, status(post(port, "/api/shop/price", b'{"product": "lamp"}', BEARER, JSON))

    tried, served = attacked(attack, rate=0.001)
    assert tried == [401, *[429] * 7]
    assert served == 200


def test_streams_end_with_their_clients_and_with_the_gateway(attacked: Any) -> None:
    """An open stream does not delay the end."""

    def attack(port: int) -> bytes:
        request = f"GET /api/shop/ordered HTTP/1.1\r\nHost: localhost:{port}\r\n{BEARER}\r\n\r\n".encode()
        with connected(port) as stream:
            stream.sendall(request)
            received = b""
            while b"\n\n" not in received:
                received += stream.recv(65536)
            return received

    assert b"text/event-stream" in attacked(attack)


def test_answers_reveal_nothing_about_the_server(attacked: Any) -> None:
    """No version, no date, no traceback; and no answer may be cached."""

    def attack(port: int) -> list[bytes]:
        return [
            get(port, "/"),
            get(port, "/openapi.json"),
            post(port, "/api/shop/price", b'{"product": "air"}', BEARER, JSON),
        ]

    for answer in attacked(attack):
        head, _, body = answer.lower().partition(b"\r\n\r\n")
        assert not any(name in head for name in (b"server:", b"x-powered-by", b"access-control"))
        assert b"cache-control: no-store" in head
        assert b"traceback" not in body
    assert json.loads(body)["status"] == 500
