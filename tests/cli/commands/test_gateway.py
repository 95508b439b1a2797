"""`lightbus gateway`: the bus over HTTP, with real workers, a real gateway, and programs that know nothing of a bus."""

from __future__ import annotations

import http.client
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import Process, wait_until
from helpers.http import ask
from helpers.nats_servers import NatsServer

from ..conftest import Commands

pytest.importorskip("starlette", reason="the extra dashboard is not installed")
pytest.importorskip("uvicorn", reason="the extra dashboard is not installed")

TOKENS = "shop 0123456789abcdef\nlistener fedcba9876543210 listen:auth.*\n"


def token_file(directory: Path) -> str:
    file = directory / "tokens"
    file.write_text(TOKENS)
    file.chmod(0o600)
    return str(file)


class Served:
    """A gateway that was started."""

    def __init__(self, process: Process, url: str, token: str) -> None:
        self.process = process
        self.url = url
        self.token = token

    def post(self, path: str, token: str = "", **arguments: Any) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {token or self.token}"}
        status, text = ask(f"{self.url}api/{path}", json.dumps(arguments).encode(), headers=headers)
        return status, json.loads(text)

    @contextmanager
    def stream(self, path: str, **headers: str) -> Iterator[Stream]:
        """Open a stream; again, as clients do, while publishers do not answer."""
        opened = wait_until(lambda: self._opened(path, headers), 60)
        assert opened is not None
        connection, answer = opened
        try:
            yield Stream(answer)
        finally:
            connection.close()

    def _opened(
        self, path: str, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse] | None:
        connection = http.client.HTTPConnection(re.sub("http://|/", "", self.url), timeout=120)
        connection.request("GET", f"/api/{path}", headers={"authorization": f"Bearer {self.token}", **headers})
        answer = connection.getresponse()
        if answer.status != 503:
            return connection, answer
        connection.close()
        return None


class Stream:
    """A stream of events, as a client reads it."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        assert answer.status == 200, answer.read()
        self._answer = answer
        self.last = ""

    def begin(self) -> None:
        """Read until the stream has begun."""
        while not self.last:
            self._line()

    def read(self, count: int) -> list[Any]:
        """Read this many events."""
        found: list[Any] = []
        name = ""
        while len(found) < count or name:
            name, value = self._line()
            if name == "data":
                found.append(json.loads(value))
        return found

    def _line(self) -> tuple[str, str]:
        line = self._answer.readline().decode()
        assert line, "the stream has ended"
        name, _, value = line.rstrip("\n").partition(": ")
        if name == "id":
            self.last = value
        return name, value


def start(commands: Commands, *args: str) -> Served:
    """Start a gateway on any port; return it once it has printed its address."""
    process = commands.start("gateway", "--port", "0", "--json", *args)
    told = json.loads(process.wait_for_line(r"^\{.*\}$")[0])
    return Served(process, told["url"], told.get("token", "0123456789abcdef"))


def test_the_bus_over_http(commands: Commands, tmp_path: Path) -> None:
    """Calls, events that a listener gets, and streams that are resumed; then it ends on a signal."""
    _, shop = commands.services()
    served = start(commands, "--allow", "auth.*", "--token-file", token_file(tmp_path))
    assert served.post("auth/check_password", username="admin", password="1234") == (200, True)
    status, problem = served.post("auth/check_password", username="admin")
    assert (status, problem["error"]) == (422, "validation_error")
    status, problem = served.post("auth/fail")
    assert (status, problem["error"]) == (500, "worker_error")
    assert "as it should" in problem["detail"]
    assert "bus.py" not in problem["detail"]
    assert served.post("auth/nothing")[0] == 404
    assert served.post("shop.orders/place", username="admin")[0] == 404
    assert served.post("auth/check_password", token="fedcba9876543210")[0] == 403

    with served.stream("auth/user_registered") as stream:
        stream.begin()
        status, fired = served.post("auth/user_registered", username="ada", age=36)
        assert status == 200
        shop.wait_for_line("^welcome ada 36$")
        [event] = stream.read(1)
        assert event["kwargs"] == {"username": "ada", "age": 36}
        assert {name: event[name] for name in ("id", "native_id")} == fired
        last = stream.last
    for name in ("grace", "alan"):
        served.post("auth/user_registered", username=name)
    with served.stream("auth/*", **{"last-event-id": last}) as stream:
        assert [each["kwargs"]["username"] for each in stream.read(2)] == ["grace", "alan"]

    served.process.signal(signal.SIGTERM)
    assert served.process.wait(60) == 0, served.process.report()


def test_a_stream_outlives_its_publisher(commands: Commands, tmp_path: Path) -> None:
    """What another process of the service publishes then comes by the same stream, and nothing is left out."""
    first = commands.serve("auth")
    first.wait_for_line("Ready")
    served = start(commands, "--allow", "auth.*", "--token-file", token_file(tmp_path))
    with served.stream("auth/user_registered") as stream:
        stream.begin()
        served.post("auth/user_registered", username="one")
        assert [each["kwargs"]["username"] for each in stream.read(1)] == ["one"]
        first.kill()
        commands.serve("auth").wait_for_line("Ready")
        wait_until(lambda: served.post("auth/user_registered", username="two")[0] == 200)
        assert [each["kwargs"]["username"] for each in stream.read(1)] == ["two"]
        last = stream.last
    with served.stream("auth/user_registered", **{"last-event-id": last}) as stream:
        served.post("auth/user_registered", username="three")
        assert [each["kwargs"]["username"] for each in stream.read(1)] == ["three"]


def test_no_worker(commands: Commands, tmp_path: Path) -> None:
    """A gateway without a worker answers 503 with Retry-After, until there is one."""
    served = start(commands, "--allow", "auth.*", "--wait", "0.2", "--token-file", token_file(tmp_path))
    status, problem = served.post("auth/echo", value="x")
    assert (status, problem["error"]) == (503, "unknown_api")
    commands.serve("auth").wait_for_line("Ready")
    wait_until(lambda: served.post("auth/echo", value="x") == (200, "x"))


def test_a_new_token_for_this_start(commands: Commands) -> None:
    """Without a token file it is printed, and works."""
    commands.serve("auth").wait_for_line("Ready")
    served = start(commands, "--allow", "call:auth.echo")
    assert len(served.token) >= 32
    assert served.post("auth/echo", value="x") == (200, "x")
    assert served.post("auth/echo", token="0123456789abcdef", value="x")[0] == 401


def test_output_has_address_and_token(commands: Commands) -> None:
    """It prints its address, and the token."""
    process = commands.start("gateway", "--port", "0", "--allow", "auth.*")
    process.wait_for_line(r"are open at http://127\.0\.0\.1:\d+/\. Ctrl-C ends it\.")
    token = process.wait_for_line(r"^Clients need the token (\S+)$")[1]
    assert len(token) >= 32
    process.signal(signal.SIGINT)
    assert process.wait(60) == 0, process.report()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "name the parts, for example --allow"),
        (("--allow", "auth"), "allows nothing"),
        (("--allow", "auth.*", "--host", "0.0.0.0"), "name its clients by --token-file"),
        (("--allow", "auth.*", "--token-file", "nowhere"), "cannot be read"),
        (("--allow", "auth.*", "--allow-origin", "*"), "is not an origin"),
        (("--allow", "auth.*", "--host", "no such host"), "name its clients by --token-file"),
    ],
)
def test_invalid_options(commands: Commands, args: tuple[str, ...], error: str) -> None:
    """They are refused before anything is opened, with what to do."""
    process = commands.run("gateway", *args, code=2)
    assert error in process.stderr


def test_streams_of_a_jetstream(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With events in NATS: fired by POST, streamed, and resumed after a cursor, without duplicates."""
    with NatsServer() as server:
        settings = tmp_path / "lightbus.json"
        settings.write_text(json.dumps({"apis": {"default": {"events": {"backend": "jetstream", "timeout": 1.0}}}}))
        monkeypatch.setenv("LIGHTBUS_CONFIG", str(settings))
        monkeypatch.setenv("LIGHTBUS_NATS_SERVERS", server.url)
        _, shop = commands.services()
        served = start(commands, "--allow", "auth.*", "--token-file", token_file(tmp_path))
        with served.stream("auth/user_registered") as stream:
            stream.begin()
            assert served.post("auth/user_registered", username="ada", age=36)[0] == 200
            shop.wait_for_line("^welcome ada 36$")
            [event] = stream.read(1)
            assert event["kwargs"] == {"username": "ada", "age": 36}
            last = stream.last
        for name in ("bob", "eve"):
            assert served.post("auth/user_registered", username=name, age=1)[0] == 200
        with served.stream("auth/user_registered", **{"Last-Event-ID": last}) as stream:
            assert [each["kwargs"]["username"] for each in stream.read(2)] == ["bob", "eve"]
            assert served.post("auth/user_registered", username="zoe", age=2)[0] == 200
            assert [each["kwargs"]["username"] for each in stream.read(1)] == ["zoe"]
        with served.stream("auth/user_registered?since=0") as stream:
            assert [each["kwargs"]["username"] for each in stream.read(4)] == ["ada", "bob", "eve", "zoe"]
        server.kill()
        status, told = served.post("auth/user_registered", username="late", age=3)
        assert (status, told["native_id"]) == (202, "")
        server.start()
        with served.stream("auth/user_registered", **{"Last-Event-ID": stream.last}) as stream:
            assert [each["kwargs"]["username"] for each in stream.read(1)] == ["late"]


def test_a_name_that_is_misspelt(commands: Commands) -> None:
    """A rule without a match is logged at the start: requests would only get 404, without a reason."""
    commands.serve("auth").wait_for_line("Ready")
    process = commands.start("gateway", "--port", "0", "--allow", "auht.*", "--allow", "auth.echo")
    process.wait_for_line(r"No peer serves auht\.\* now: the rule allows nothing yet\. Did you mean 'auth'\?")
    assert "has auth.echo now" not in process.output
