"""Tests of lightbus.web.serving: limits of a connection, by raw sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from helpers import wait_until
from lightbus import InvalidConfiguration
from lightbus.web import serving
from lightbus.web.serving import bound_socket, serve


class Program:
    """Answers `/`; `/large` without an end; and streams nothing at `/stream` until it is ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.given_up = threading.Event()
        self.closed = False
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/large":
            await StreamingResponse(self._large())(scope, receive, send)
        elif scope["path"] == "/stream":
            await StreamingResponse(self._nothing())(scope, receive, send)
        else:
            await PlainTextResponse("here")(scope, receive, send)

    async def _large(self) -> Any:
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)  # what is sent to nobody takes no time
        finally:
            self.given_up.set()

    async def _nothing(self) -> Any:
        yield b"begun"
        await self.ended.wait()

    def end_streams(self) -> None:
        self.ended.set()

    async def close(self) -> None:
        self.closed = True


def served(use: Callable[[int, Program], Any]) -> Any:
    """Serve a program, run a function on its port in a thread, and return its result."""

    async def main() -> Any:
        program, done = Program(), asyncio.Event()
        with bound_socket("127.0.0.1", 0, "The program") as listening:
            task = asyncio.create_task(serve(program, listening, done))
            try:
                return await asyncio.to_thread(use, listening.getsockname()[1], program)
            finally:
                done.set()
                await task
                assert program.closed

    return asyncio.run(main())


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def to_the_end(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def answer(connection: socket.socket) -> bytes:
    """Read one answer whose body is `here`."""
    received = b""
    while not received.endswith(b"here"):
        part = connection.recv(65536)
        assert part, received
        received += part
    return received


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_no_answer_waits_for_the_one_before(address: str) -> None:
    """TCP_NODELAY is set: else each body would wait 40 ms for an acknowledgement of its head."""
    try:
        listening = bound_socket(address, 0, "The program")
    except InvalidConfiguration:
        pytest.skip("this host has no IPv6")
    with listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()[:2], timeout=60):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_second_requests_are_not_waited_for_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was answered, and begins an endless second head, is disconnected."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.5)

    def use(port: int, program: Program) -> bytes:
        with connected(port) as connection:
            connection.sendall(request("/"))
            answer(connection)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            return to_the_end(connection)

    assert served(use) == b""


def test_requests_that_follow_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if they arrive at once, and during an answer that takes longer than a head may."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.5)

    def use(port: int, program: Program) -> int:
        with connected(port) as both, connected(port) as stream:
            stream.sendall(request("/stream"))
            both.sendall(request("/") + request("/"))
            count = answer(both).count(b"here")
            while count < 2:
                count += answer(both).count(b"here")
            to_the_end(both)  # it is given up; the stream is not
            stream.settimeout(0.2)
            begun = b""
            with suppress(TimeoutError):
                while part := stream.recv(65536):
                    begun += part
                raise AssertionError(f"the stream ended: {begun!r}")
            assert b"begun" in begun
            return count

    assert served(use) == 2


def test_unread_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It occupies neither its connection nor memory for ever."""
    monkeypatch.setattr(serving, "STALL_SECONDS", 0.3)

    def use(port: int, program: Program) -> None:
        with connected(port) as connection:
            connection.sendall(request("/large"))
            wait_until(program.given_up.is_set)  # though we are still there

    served(use)


def test_a_body_that_is_not_http_behind_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends, although the answer was sent already, or has begun: and no error is logged for each."""

    def use(port: int, program: Program) -> list[bytes]:
        rest = []
        for path, first in (("/", b"here"), ("/stream", b"begun")) * 2:
            with connected(port) as connection:
                chunked = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"
                connection.sendall(chunked.encode())
                received = b""
                while first not in received:
                    received += connection.recv(65536)
                connection.sendall(b"no chunk\r\n")
                rest.append(to_the_end(connection))
        return rest

    assert not any(b"HTTP/1.1" in each for each in served(use))
    said = [(each.name, each.getMessage()) for each in caplog.records if each.levelno >= logging.WARNING]
    assert said == [("lightbus.web", "A request that is not HTTP was refused")]


def test_connections_that_ask_for_nothing_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those over the limit are closed at once, which is logged once; when the others end, new ones are served."""
    monkeypatch.setattr(serving, "MAX_HELD", 3)

    def use(port: int, program: Program) -> tuple[list[bytes], bytes]:
        with ExitStack() as stack:
            held = [stack.enter_context(connected(port)) for _ in range(3)]
            for each in held:
                each.sendall(request("/"))
                answer(each)  # they are accepted
            closed = [to_the_end(stack.enter_context(connected(port))) for _ in range(5)]
        while True:  # until the ends of the connections have been noticed
            with connected(port) as connection, suppress(OSError):
                connection.sendall(request("/"))
                if received := connection.recv(12):
                    return closed, received

    assert served(use) == ([b""] * 5, b"HTTP/1.1 200")
    assert len([each for each in caplog.records if "new requests are refused" in each.getMessage()]) == 1


def test_missing_descriptors_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of asyncio there is one for each connection that waits, with a traceback, every second."""

    def use(port: int, program: Program) -> None:
        with connected(port) as connection:
            connection.sendall(request("/"))
            answer(connection)
        for _ in range(100):
            logging.getLogger("asyncio").error("socket.accept() out of system resource\nsocket: ...")

    before = [*logging.getLogger("asyncio").filters]
    served(use)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == [serving.WAITING]
    assert logging.getLogger("asyncio").filters == before


def test_port_in_use_is_refused() -> None:
    """The error says what cannot listen where, and what to do."""
    with bound_socket("127.0.0.1", 0, "The first") as first:
        port = first.getsockname()[1]
        with pytest.raises(InvalidConfiguration, match=f"The second cannot listen at 127.0.0.1, port {port}: .*--port"):
            bound_socket("127.0.0.1", port, "The second")
    with pytest.raises(InvalidConfiguration, match="cannot listen at"):
        bound_socket("no such host at all", 0, "The third")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("unknown.example", "--host"),
        ("203.0.113.1", "--host"),
        ("127.0.0.1", "--port"),
        ("a..b", "--host"),
        ("x" * 70, "--host"),
    ],
)
def test_where_it_cannot_listen(address: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the option to change: an address that is not this host's, or a port in use."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        if address == "unknown.example":
            monkeypatch.setattr(serving.socket, "getaddrinfo", unknown)
        with pytest.raises(InvalidConfiguration) as raised:
            bound_socket(address, taken.getsockname()[1], "The program")
    text = str(raised.value)
    other = {"--host": "--port", "--port": "--host"}[expected]
    assert (expected in text, other in text, "while attempting" in text) == (True, False, False)


def test_invalid_requests_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An invalid request is logged once, not each time; a WebSocket request is answered without a log line."""

    def use(port: int, program: Program) -> list[bytes]:
        upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n"
        answers = []
        for sent in (b"nonsense\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"nonsense\r\n\r\n", upgrade):
            with connected(port) as connection:
                connection.sendall(sent)
                answers.append(connection.recv(12))
        return answers

    assert served(use) == [b"HTTP/1.1 400"] * 3 + [b"HTTP/1.1 200"]
    said = [(each.name, each.getMessage()) for each in caplog.records if each.levelno >= logging.WARNING]
    assert said == [("lightbus.web", "A request that is not HTTP was refused")]
    assert logging.getLogger("uvicorn.error").filters == []
