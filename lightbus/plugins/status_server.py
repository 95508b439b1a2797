"""A small HTTP server for probes and scrapes, in a thread: it answers even while the event loop is blocked."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple, TypeAlias

from ..exceptions import InvalidConfiguration, TransportError
from ..phrases import safely

__all__ = ["LOOPBACK", "Answer", "PageFunction", "StatusServer", "parse_place"]

LOOPBACK = "127.0.0.1"
"""The default address: this host only, since there is no access control."""

MOST_CONNECTIONS = 50
"""The most open connections: each has a thread."""

REQUEST_TIME = 10.0
"""Seconds within which a client must send its request."""


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


PageFunction: TypeAlias = Callable[[], Answer]


def parse_place(text: str, option: str) -> tuple[str, int]:
    """Parse `"9100"`, `"0.0.0.0:9100"` or `"[::]:9100"` into address and port. Raises InvalidConfiguration."""
    address, _, port = text.strip().rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InvalidConfiguration(
            f"{option} is {text!r}. It is a port, which is served on {LOOPBACK}, or an address and a port: 9100, "
            "0.0.0.0:9100 for every interface, [::]:9100; port 0 is any that is free."
        )
    return address or LOOPBACK, int(port)


class _BoundedServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    pages: Mapping[str, PageFunction] = {}

    def __init__(self, *args: Any) -> None:
        self._connections: deque[Any] = deque()
        """The open connections, oldest first."""
        super().__init__(*args)

    def server_bind(self) -> None:
        """Bind without asking for the host's full name, as HTTPServer does: a name server may take long to answer."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread. If there are too many connections, the oldest are closed: a probe must be answered."""
        while len(self._connections) >= MOST_CONNECTIONS:
            with suppress(OSError, IndexError):  # just closed
                self._connections.popleft().shutdown(socket.SHUT_RDWR)
        self._connections.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with suppress(ValueError):  # already removed to make room
            self._connections.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected."""


class _ServerOfIPv6(_BoundedServer):
    address_family = socket.AF_INET6


class _StatusHandler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIME
    server: _BoundedServer
    server_version = "lightbus"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].rstrip("/") or "/"
        page = self.server.pages.get(path)
        if page is None:
            known = " ".join(sorted(self.server.pages))
            answer = Answer(404, f"There is no {path} here, but: {known}\n".encode())
        else:
            try:
                answer = page()
            except Exception as error:  # any error of a page goes into the answer
                answer = Answer(500, f"{type(error).__name__}: {safely(str, error)}\n".encode())
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: there is one every few seconds."""


class StatusServer:
    """
    Serves pages by HTTP until it is stopped.

    Args:
        address, port: where to listen; port 0 for any free one.
        pages: the functions that make the answers, by path; called in a thread of the server.
        asked_by: the setting or option that gave address and port, for errors.

    Raises:
        TransportError: the port is in use, or this host does not have the address.

    Attributes:
        port: the actual port.

    """

    def __init__(self, address: str, port: int, pages: Mapping[str, PageFunction], *, asked_by: str) -> None:
        kind = _ServerOfIPv6 if ":" in address else _BoundedServer
        try:
            self._server = kind((address, port), _StatusHandler)
        except OSError as error:
            raise TransportError(
                f"{asked_by}: {address}:{port} cannot be served: {error.strerror or error}. Choose another port (0 is "
                "any that is free), or an address of this host."
            ) from error
        self._server.pages = pages
        self.address = address
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._serve, name="lightbus-status", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://{f'[{self.address}]' if ':' in self.address else self.address}:{self.port}"

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)
