"""The server: uvicorn, with bounds on what who connects can make it hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from typing import Protocol

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..adapters.host.allocator import share_heaps
from ..exceptions import InvalidConfiguration
from ..recurring import RecurringLog
from .heads import MAX_HEAD

__all__ = ["HEAD_SECONDS", "ServedApp", "bound_socket", "serve"]

logger = logging.getLogger("lightbus.web")

HEAD_SECONDS = 10.0
"""Seconds in which a connection has to have sent the head of its first request, and of each that follows."""

STALL_SECONDS = 30.0
"""Seconds for which an answer may wait that nobody takes."""

MAX_CONNECTIONS = 500
"""Connections that are answered at the same time; others are told to come later."""

END_SECONDS = 3
"""Seconds that the server waits at its end for answers that are on their way."""


class _Protocol(H11Protocol):
    """A connection that is ended where who is there keeps us waiting: for a request's head, or to take an answer."""

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head(None)

    def on_response_complete(self) -> None:
        last = self.cycle  # the next one may have begun when the following returns
        super().on_response_complete()
        self._await_head(last)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self._stall_timer or self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request of HTTP in the form in which all else is refused (RFC 9457)."""
        told = {"title": "Bad Request", "status": 400, "detail": msg, "error": "bad_request"}
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
        head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=json.dumps(told).encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stall_timer)
        self._stall_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._head_timer)
        super().connection_lost(exc)  # it resumes writing, too

    def _await_head(self, last: object) -> None:
        _cancel(self._head_timer)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end_if_silent, last)

    def _end_if_silent(self, last: object) -> None:
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class _QuietServer(uvicorn.Server):
    """Leaves signals to the command, which has the streams end first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


REFUSED = {
    "Invalid HTTP request received.": "A request that is not HTTP was refused",
    "Exceeded concurrency limit.": f"There are {MAX_CONNECTIONS} connections: new requests are refused for now",
}
"""What uvicorn says of those who ask, each time, and what it is in our words."""

NO_NEWS = ("Unsupported upgrade request.", "No supported WebSocket library")
"""What it says of who asks for a WebSocket: there are none here, and nobody need install anything."""


class _LimitedWarnings(logging.Filter):
    """Has what strangers cause be said now and then, not with each request, by which anybody could fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._log = RecurringLog(logger)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text in REFUSED:
            self._log.log(text, logging.WARNING, REFUSED[text])
        return text not in REFUSED and not text.startswith(NO_NEWS)


class ServedApp(Protocol):
    """What is served: an application, of which some answers go on until they are ended."""

    app: ASGIApp

    def end_streams(self) -> None:
        """End the answers that go on, so that the server can end."""
        ...

    async def close(self) -> None:
        """Leave the bus."""
        ...


def bound_socket(address: str, port: int, what: str) -> socket.socket:
    """Return the socket that `what` listens at. Raises InvalidConfiguration where it cannot be had."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        bound = socket.create_server(place[:2], family=family, backlog=128)
        # Those that are accepted have it, too; asyncio sets it only where a socket was made for TCP by its number.
        # Without it the body of an answer waits for who asked to confirm the head, who takes 40 ms for that (RFC 1122,
        # 4.2.3.2 and 4.2.3.4).
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise InvalidConfiguration(f"{what} cannot listen at {address}, port {port}: {_why(error)}") from error
    bound.setblocking(False)
    return bound


def _why(error: OSError) -> str:
    """Return why it cannot be listened there, and what to do."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        problem = error.strerror if isinstance(error, socket.gaierror) else os.strerror(errno.EADDRNOTAVAIL)
        return f"{problem}. Give --host an address of this host: 127.0.0.1 for this host only, 0.0.0.0 for all it has."
    # Python adds the address to the words of the system.
    problem = os.strerror(error.errno) if error.errno else str(error)
    return f"{problem}. Choose another one with --port, or --port 0 for any that is free."


async def serve(served: ServedApp, listening: socket.socket, done: asyncio.Event) -> None:
    """Serve until it is done, in a process that does nothing else."""
    share_heaps()  # each time somebody looks at events a client comes, with its threads, and goes
    server = _QuietServer(
        uvicorn.Config(
            served.app,
            interface="asgi3",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # what they say of who asks, anybody can say
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_graceful_shutdown=END_SECONDS,
        )
    )
    remarks, its_log = _LimitedWarnings(), logging.getLogger("uvicorn.error")
    its_log.addFilter(remarks)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    ended = asyncio.create_task(done.wait())
    try:
        await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        served.end_streams()
        server.should_exit = True
        await serving
        its_log.removeFilter(remarks)
        await served.close()
