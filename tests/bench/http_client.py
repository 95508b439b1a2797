"""Calls a procedure over HTTP: `http_client URL TOKEN COUNT`, on several connections at a time."""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from urllib.parse import urlsplit

from .measure import CALL, tell

CONNECTIONS = 10


async def _ask(host: str, port: int, request: bytes, count: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for _ in range(count):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        if body != b"true":
            raise SystemExit(f"the answer is {head + body!r:.300}")
    writer.close()
    await writer.wait_closed()


async def _measure(url: str, token: str, count: int) -> dict[str, float]:
    place = urlsplit(url)
    body = json.dumps(CALL)
    head = [
        "POST /api/auth/check_password HTTP/1.1", f"Host: {place.netloc}", f"Authorization: Bearer {token or 'none'}",
        "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    request = ("\r\n".join([*head, "", ""]) + body).encode()
    host, port = place.hostname or "", place.port or 0
    await _ask(host, port, request, 1)  # it finds a worker
    began = perf_counter()
    each = max(1, count // CONNECTIONS)
    await asyncio.gather(*(_ask(host, port, request, each) for _ in range(CONNECTIONS)))
    return {"per_s": each * CONNECTIONS / (perf_counter() - began)}


if __name__ == "__main__":
    url, token, count = sys.argv[1:]
    tell(asyncio.run(_measure(url, token, int(count))))
