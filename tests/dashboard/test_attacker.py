"""Attacks on a served dashboard, by raw sockets, since no HTTP client would send such requests."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import lightbus.dashboard
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.options import ClientOptions
from lightbus.dashboard.app import Dashboard
from lightbus.dashboard.options import DashboardOptions
from lightbus.web import bodies, serving
from lightbus.web.heads import MAX_HEAD

PACKAGE = Path(lightbus.dashboard.__path__[0])

Attack = Callable[[int], Any]


def attacked(attack: Attack, **given: Any) -> Any:
    """Serve the dashboard of an empty bus, and return the result of an attack on its port by a plain thread."""
    return asyncio.run(_attacked(attack, DashboardOptions(port=0, **given)))


async def _attacked(attack: Attack, options: DashboardOptions) -> Any:
    def connect() -> Connection:
        return Connection(ClientOptions(as_json=True, wait=0.1))

    bus, done = connect(), asyncio.Event()
    with serving.bound_socket(options.address, options.port, "The dashboard") as listening:
        task = asyncio.create_task(serving.serve(Dashboard(bus, options), listening, done))
        try:
            return await asyncio.to_thread(attack, listening.getsockname()[1])
        finally:
            done.set()
            await task
            await bus.close()


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        return to_the_end(connection)


def to_the_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def get(port: int, path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "Connection: close", "", ""]
    return exchange(port, "\r\n".join(lines).encode("latin-1"))


def post(port: int, path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}", "Connection: close"]
    return exchange(port, "\r\n".join([*lines, *headers, "", ""]).encode() + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


TRICKS = [
    "/assets/../app.py",
    "/assets/%2e%2e/app.py",
    "/assets/..%2fapp.py",
    "/assets/..%5c..%5capp.py",
    "/assets/%2fetc/passwd",
    "/assets//etc/passwd",
    "/assets/app.css%00.py",
    "/assets/" + "../" * 30 + "etc/passwd",
    "/assets/./../guard.py",
    "/assets",
    "/../../etc/passwd",
]


def test_no_path_leaves_the_assets() -> None:
    """Only the files of the pages can be read."""
    found = attacked(lambda port: [get(port, path) for path in TRICKS])
    sources = (PACKAGE / "app.py").read_bytes()[:200], b"root:"
    assert [path for path, answer in zip(TRICKS, found, strict=True) if status(answer) == 200] == []
    assert not any(source in answer for source in sources for answer in found)


def test_other_sites_get_nothing() -> None:
    """Neither under their own host name that points here, nor from their page, frame or form."""

    def attack(port: int) -> list[int]:
        json_body = "Content-Type: application/json"
        form = "Content-Type: text/plain"
        host = exchange(port, b"GET /api/about HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        return [
            status(each)
            for each in (
                host,
                get(port, "/api/about", "Origin: http://evil.example"),
                get(port, "/api/stream/overview", "Sec-Fetch-Site: cross-site"),
                post(port, "/api/actions/call", b"{}", json_body, "Origin: http://evil.example"),
                post(port, "/api/actions/call", b"{}", json_body, "Origin: null"),
                post(port, "/api/actions/call", b"{}", form),
                post(port, "/api/actions/call", b"[1]", json_body),
            )
        ]

    assert attacked(attack, actions=True) == [421, 403, 403, 403, 403, 400, 400]


def test_actions_are_refused_unless_allowed() -> None:
    """Every action is refused, and the error names the option that allows it."""

    def attack(port: int) -> list[bytes]:
        return [
            post(port, f"/api/actions/{name}", b"{}", "Content-Type: application/json") for name in ("call", "fire")
        ]

    for answer in attacked(attack):
        assert status(answer) == 403
        assert b"--allow-actions" in answer


def test_no_other_site_may_embed_or_read_it() -> None:
    """The headers of every answer say so, errors included; and no answer allows another origin."""
    for answer in attacked(lambda port: [get(port, "/"), get(port, "/nothing"), get(port, "/assets/app.js")]):
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"frame-ancestors 'none'" in head
        assert b"script-src 'self'" in head
        assert b"access-control-allow-origin" not in head


def test_huge_bodies_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither with a declared length, nor as endless chunks."""
    monkeypatch.setattr(bodies, "MAX_BODY", 10_000)

    def attack(port: int) -> list[int]:
        said = f"POST /api/actions/call HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        long = exchange(port, f"{said}Content-Length: {1024 * 1024 + 1}\r\nConnection: close\r\n\r\n".encode())
        piece = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        endless = exchange(port, f"{said}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode() + piece * 4)
        return [status(long), status(endless)]

    assert attacked(attack, actions=True) == [413, 413]


def test_huge_heads_are_refused() -> None:
    """Endless heads and complete ones, and too long addresses."""

    def attack(port: int) -> list[bytes]:
        begun = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        return [
            exchange(port, begun + b"X: " + b"a" * (2 * MAX_HEAD)),
            get(port, "/", "X: " + "a" * 70_000),
            get(port, "/api/dead?group=" + "a" * 5000),
        ]

    endless, whole, long = map(status, attacked(attack))
    assert endless == 400
    assert whole in (400, 431)  # by how much of it came at once
    assert long == 414


def test_slow_connections_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends nothing, or an endless head, is closed; one with a complete head is answered."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.5)

    def attack(port: int) -> list[bytes]:
        with ExitStack() as stack:
            slow = []
            for begun in ("", "GET / HT", f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n"):
                slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
                with suppress(OSError):  # it was given up before, on a busy machine
                    slow[-1].sendall(begun.encode())
            return [to_the_end(each) for each in slow]

    assert attacked(attack) == [b"", b"", b""]


def test_slow_bodies_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends its body too slowly is refused; meanwhile others are answered."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)

    def attack(port: int) -> list[int]:
        head = f"POST /api/actions/call HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.sendall(f"{head}Content-Length: 5\r\nConnection: close\r\n\r\n1".encode())
            return [status(get(port, "/login")), status(to_the_end(slow))]

    assert attacked(attack, actions=True) == [200, 408]


def test_forwarding_headers_are_not_trusted() -> None:
    """No client becomes this user by a header."""
    answer = attacked(lambda port: get(port, "/api/about", "X-Forwarded-For: 127.0.0.1"))
    assert status(answer) == 401


def test_token_is_accepted_by_the_form_only() -> None:
    """The form sets a cookie that no script reads and no other site sends; a wrong token returns to the form."""

    def attack(port: int) -> list[bytes]:
        form = "Content-Type: application/x-www-form-urlencoded"
        return [
            get(port, "/"),
            post(port, "/login", b"token=wrong", form),
            post(port, "/login", b"token=the-right-token-of-all", form),
            get(port, "/api/about", f"Cookie: lightbus-dashboard-{port}=the-right-token-of-all"),
            get(port, "/?token=the-right-token-of-all"),
        ]

    closed, wrong, right, inside, by_address = attacked(attack, token="the-right-token-of-all", names=("bus.example",))
    assert b"location: /login\r\n" in closed.lower()
    assert b"location: /login?again" in wrong.lower()
    assert b"set-cookie" not in wrong.lower()
    assert b"httponly" in right.lower()
    assert b"samesite=strict" in right.lower()
    assert status(inside) == 200
    assert json.loads(inside.partition(b"\r\n\r\n")[2])["actions"] is False
    assert status(by_address) == 303
