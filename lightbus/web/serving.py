"""The server: uvicorn, with limits on the resources that a client can occupy."""

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
"""Seconds within which a connection must send the head of its first request, and of each further one."""

STALL_SECONDS = 30.0
"""Seconds after which a connection is aborted whose client does not read the answer."""

MAX_CONNECTIONS = 500
"""The most connections served at the same time; others are answered 503."""

MAX_HELD = MAX_CONNECTIONS + 100
"""The most connections held open, those without a request included; further ones are closed at once."""

BACKLOG = 128
"""
The most connections that wait to be accepted, and so the most that are accepted together.

uvicorn's own default, 2048, is more descriptors than a process may have by default.
"""

OTHER_HOST = "Give --host an address of this host: 127.0.0.1 for this host only, 0.0.0.0 for all it has."

END_SECONDS = 3
"""Seconds that the server waits at its end for answers in progress."""


class _Protocol(H11Protocol):
    """A connection that is closed if the client is too slow: in sending a request's head, or in reading an answer."""

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head(None)
        if len(self.connections) > MAX_HELD:
            self.logger.warning(TOO_MANY)
            transport.abort()

    def on_response_complete(self) -> None:
        last = self.cycle  # the next request may have begun when the call below returns
        super().on_response_complete()
        self._await_head(last)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self._stall_timer or self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not HTTP, in the form of all other refusals (RFC 9457)."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else its answer has begun, or is complete
            self._send_problem(msg)
        self.transport.close()

    def _send_problem(self, msg: str) -> None:
        problem = {"title": "Bad Request", "status": 400, "detail": msg, "error": "bad_request"}
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
        head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=json.dumps(problem).encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stall_timer)
        self._stall_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._head_timer)
        super().connection_lost(exc)  # calls resume_writing, too

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
    """A server without signal handlers: the command handles signals, and ends the streams first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


TOO_MANY = "Exceeded concurrency limit."
"""uvicorn's text where there are more than `MAX_CONNECTIONS`."""

NO_DESCRIPTOR = "socket.accept() out of system resource"
"""
How asyncio's text begins where no descriptor is left for a connection.

It is logged with a traceback for each that waits, every second: 200 MB in half a minute.
"""

REFUSED = {
    "Invalid HTTP request received.": "A request that is not HTTP was refused",
    TOO_MANY: f"There are {MAX_CONNECTIONS} connections: new requests are refused for now",
}
"""Warnings that uvicorn logs for each such request -> the text logged instead, at intervals."""

WAITING = "No descriptor is left for new connections, which wait: raise the limit (ulimit -n), or end some of them"
"""The text that is logged instead of `NO_DESCRIPTOR`, at intervals."""

NO_NEWS = ("Unsupported upgrade request.", "No supported WebSocket library")
"""Warnings of uvicorn about WebSocket requests, dropped: there are no WebSockets here, and nothing to install."""


class _LimitedWarnings(logging.Filter):
    """Limits the warnings that a client can cause: logged for each request, they could fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._log = RecurringLog(logger)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(NO_DESCRIPTOR):
            self._log.log(NO_DESCRIPTOR, logging.ERROR, WAITING)
            return False
        if text in REFUSED:
            self._log.log(text, logging.WARNING, REFUSED[text])
        return text not in REFUSED and not text.startswith(NO_NEWS)


class ServedApp(Protocol):
    """An application with streams that must be ended before the server can stop."""

    app: ASGIApp

    def end_streams(self) -> None:
        """End the streams, so that the server can stop."""
        ...

    async def close(self) -> None:
        """Leave the bus."""
        ...


def bound_socket(address: str, port: int, what: str) -> socket.socket:
    """Return a listening socket for `what`. Raises InvalidConfiguration if it cannot be opened."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        bound = socket.create_server(place[:2], family=family, backlog=BACKLOG)
        # Accepted sockets inherit the option; asyncio sets it only on sockets made with the protocol number of TCP.
        # Without it the body of an answer waits until the client acknowledges the head, which takes 40 ms (RFC 1122,
        # 4.2.3.2 and 4.2.3.4).
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name server could know such a name
        raise InvalidConfiguration(f"{what} cannot listen at {address}, port {port}: {_why(error)}") from error
    bound.setblocking(False)
    return bound


def _why(error: OSError | UnicodeError) -> str:
    """Return why the address cannot be listened on, and what to do."""
    if isinstance(error, UnicodeError):
        return f"This is no host name. {OTHER_HOST}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        problem = error.strerror if isinstance(error, socket.gaierror) else os.strerror(errno.EADDRNOTAVAIL)
        return f"{problem}. {OTHER_HOST}"
    # Not `str(error)`: Python adds the address to the text of the system.
    problem = os.strerror(error.errno) if error.errno else str(error)
    return f"{problem}. Choose another one with --port, or --port 0 for any that is free."


async def serve(served: ServedApp, listening: socket.socket, done: asyncio.Event) -> None:
    """Serve until `done` is set, in a process that does nothing else."""
    share_heaps()  # threads come and go, and each would have a heap of its own
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
            proxy_headers=False,  # anybody can send such headers
            limit_concurrency=MAX_CONNECTIONS,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_graceful_shutdown=END_SECONDS,
        )
    )
    warnings, logs = _LimitedWarnings(), [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for each in logs:
        each.addFilter(warnings)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    ended = asyncio.create_task(done.wait())
    try:
        await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        served.end_streams()
        server.should_exit = True
        await serving
        for each in logs:
            each.removeFilter(warnings)
        await served.close()
