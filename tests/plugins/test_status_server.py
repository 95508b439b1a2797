from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from helpers.http import ask
from lightbus.exceptions import InvalidConfiguration, TransportError
from lightbus.plugins import status_server
from lightbus.plugins.status_server import Answer, StatusServer, parse_place


def failing() -> Answer:
    raise ValueError("the page's own")


@pytest.fixture
def server() -> Iterator[StatusServer]:
    pages = {"/live": lambda: Answer(200, b"alive\n"), "/ready": lambda: Answer(503, b"not yet\n"), "/bad": failing}
    server = StatusServer("127.0.0.1", 0, pages, asked_by="plugins.health.port")
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/live", (200, "alive\n")),
        ("/live/?full=1", (200, "alive\n")),
        ("/ready", (503, "not yet\n")),
        ("/bad", (500, "ValueError: the page's own\n")),
        ("/", (404, "There is no / here, but: /bad /live /ready\n")),
    ],
)
def test_failing_page_is_answered(server: StatusServer, path: str, expected: tuple[int, str]) -> None:
    """A page is found by its path; an exception gives status 500."""
    assert ask(server.url + path) == expected


def test_head_gets_the_status_only(server: StatusServer) -> None:
    """HEAD gets the status without a body."""
    assert ask(server.url + "/live", method="HEAD") == (200, "")


def test_several_at_a_time(server: StatusServer) -> None:
    """A client that connects and sends nothing does not block others."""
    with socket.create_connection(("127.0.0.1", server.port)):
        assert ask(server.url + "/live") == (200, "alive\n")


def test_many_that_say_nothing(server: StatusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest idle connections are closed for new ones."""
    monkeypatch.setattr(status_server, "MOST_CONNECTIONS", 3)
    with ExitStack() as stack:
        place = "127.0.0.1", server.port
        silent = [stack.enter_context(socket.create_connection(place, timeout=60)) for _ in range(6)]
        assert ask(server.url + "/live") == (200, "alive\n")
        assert silent[0].recv(1) == b""


def test_port_that_is_taken(server: StatusServer) -> None:
    """The error names the setting, the place and what to do."""
    with pytest.raises(TransportError, match=rf"plugins.health.port: 127.0.0.1:{server.port} .* Choose another port"):
        StatusServer("127.0.0.1", server.port, {}, asked_by="plugins.health.port")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::]:9100", ("::", 9100)),
        (":9100", ("127.0.0.1", 9100)),
        (" localhost:0 ", ("localhost", 0)),
    ],
)
def test_port_alone_is_served_on_loopback(text: str, place: tuple[str, int]) -> None:
    """A port alone is served on this host only."""
    assert parse_place(text, "--health-port") == place


@pytest.mark.parametrize("text", ["", "http", "70000", "host:", "-1", "9100:host"])
def test_invalid_address_is_refused_with_the_forms(text: str) -> None:
    """The error lists the valid forms."""
    with pytest.raises(InvalidConfiguration, match=r"--health-port is .* or an address and a port: 9100"):
        parse_place(text, "--health-port")


def test_ipv6_address_works() -> None:
    """An IPv6 address works, if the host has it."""
    try:
        server = StatusServer("::1", 0, {"/live": lambda: Answer(200, b"alive\n")}, asked_by="x")
    except TransportError:
        pytest.skip("this host has no IPv6")
    assert server.url == f"http://[::1]:{server.port}"
    assert ask(server.url + "/live") == (200, "alive\n")
    server.stop()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A worker starts its probes on its event loop, which would wait as long as a name server hangs."""

    def hangs(*names: object) -> str:
        raise AssertionError(f"the name of {names} was looked up")

    for function in ("getfqdn", "gethostbyaddr", "gethostbyname"):
        monkeypatch.setattr(socket, function, hangs)
    server = StatusServer(address, 0, {"/live": lambda: Answer(200, b"alive\n")}, asked_by="--health-port")
    try:
        assert ask(f"http://127.0.0.1:{server.port}/live") == (200, "alive\n")
    finally:
        server.stop()
