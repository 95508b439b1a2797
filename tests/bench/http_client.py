"""
Calls a procedure over HTTP: `http_client URL TOKEN COUNT`, on several connections at a time.

It is to cost next to nothing beside the server that it measures: one selector over plain sockets, a request that is
made once, and an answer that is compared with the first one by its length and its end.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from time import perf_counter
from urllib.parse import urlsplit

from .measure import CALL, tell

CONNECTIONS = 10

PATIENCE = 60.0
"""Seconds without an answer after which something is wrong."""


def _request(url: str, token: str) -> bytes:
    body = json.dumps(CALL)
    head = [
        "POST /api/auth/check_password HTTP/1.1", f"Host: {urlsplit(url).netloc}",
        f"Authorization: Bearer {token or 'none'}", "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    return ("\r\n".join([*head, "", ""]) + body).encode()


def _connect(url: str) -> socket.socket:
    place = urlsplit(url)
    made = socket.create_connection((place.hostname or "", place.port or 0), timeout=PATIENCE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _first(connection: socket.socket, request: bytes) -> bytes:
    """Send a request, and check the whole answer."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.endswith(b"true"):
        if not (part := connection.recv(65536)) or len(answer) > 4096:
            raise SystemExit(f"the answer is {answer!r:.300}")
        answer += part
    return answer


def _measure(url: str, token: str, count: int) -> dict[str, float]:
    request = _request(url, token)
    connections = [_connect(url) for _ in range(CONNECTIONS)]
    expected = [_first(each, request) for each in connections][-1]  # it finds a worker, and each is warm
    left = dict.fromkeys(connections, max(1, count // CONNECTIONS))
    total = sum(left.values())
    with selectors.DefaultSelector() as waiting:
        for each in connections:
            waiting.register(each, selectors.EVENT_READ)
        began = perf_counter()
        for each in connections:
            each.sendall(request)
        while left:
            ready = waiting.select(PATIENCE)
            if not ready:
                raise SystemExit("no answer comes any more")
            for key, _ in ready:
                _take(key.fileobj, request, expected, left)  # type: ignore[arg-type]
        seconds = perf_counter() - began
    for each in connections:
        each.close()
    return {"per_s": total / seconds}


def _take(connection: socket.socket, request: bytes, expected: bytes, left: dict[socket.socket, int]) -> None:
    """Read an answer, and send the next request if there is one."""
    answer = connection.recv(65536)
    while answer and len(answer) < len(expected):
        answer += connection.recv(65536)
    if len(answer) != len(expected) or not answer.endswith(b"true"):
        raise SystemExit(f"the answer is {answer!r:.300}")
    left[connection] -= 1
    if left[connection]:
        connection.sendall(request)
    else:
        del left[connection]


if __name__ == "__main__":
    url, token, count = sys.argv[1:]
    tell(_measure(url, token, int(count)))
