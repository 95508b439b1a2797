"""Fixtures of the commands' tests: two services on a separate bus, and commands run as processes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from helpers import Process, Processes, Terminal, on_terminal
from helpers.clients import AuthApi
from helpers.forking import ForkServer
from lightbus.cli.support.connection import Connection
from lightbus.core.peers import Peer
from lightbus.exceptions import LightbusTimeout
from lightbus.testing import MemoryBus, memory_bus

SERVICES = {
    "auth": '''
import lightbus

bus = lightbus.create()

class AuthApi(lightbus.Api):
    """Users, in memory."""

    user_registered = lightbus.Event(["username", lightbus.Parameter("age", int, default=0)], key="username")

    class Meta:
        name = "auth"
        version = {version}

    def check_password(self, username: str, password: str) -> bool:
        """Return whether this is the user's password."""
        return (username, password) == ("admin", "1234")

    def echo(self, value: str) -> str:
        """Return it."""
        return value

    def fail(self) -> None:
        raise RuntimeError("as it should")

bus.client.register_api(AuthApi())
''',
    "shop": """
import lightbus

bus = lightbus.create()

class ShopApi(lightbus.Api):
    class Meta:
        name = "shop.orders"

    def place(self, username: str) -> bool:
        return bus.auth.check_password(username=username, password="1234")

bus.client.register_api(ShopApi())

@bus.client.on_start()
def on_start():
    bus.auth.user_registered.listen(greet, listener_name="greeter")

def greet(event_message, username, age):
    print("welcome", username, age, flush=True)
""",
    "mail": """
import lightbus

bus = lightbus.create()

@bus.client.on_start()
def on_start():
    bus.auth.user_registered.listen(
        fail, listener_name="fails", on_error=lightbus.OnError.RETRY, max_deliveries=1
    )

def fail(event_message, username, age):
    raise ValueError(f"no {username} here")
""",
}


@pytest.fixture
def one_hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBus]:
    """Return a bus in memory with two workers that serve `auth`; the first one that is asked about itself hangs."""
    ask = Connection.ask
    asked: list[str] = []

    async def first_silent(bus: Connection, peer: Peer, procedure: str, **question: Any) -> Any:
        asked.append(peer.instance)
        if peer.instance == asked[0]:
            raise LightbusTimeout("it does not answer")
        return await ask(bus, peer, procedure, **question)

    monkeypatch.setattr(Connection, "ask", first_silent)
    with memory_bus() as hub:
        for _ in range(2):
            bus = hub.create(service_name="auth")
            bus.client.register_api(AuthApi())
            hub.start(bus)
        yield hub


OFF_THE_BUS = {"completion", "context", "keys", "schema", "version"}
"""Commands that look for nobody."""


class Commands:
    """Services of one test, and commands on their bus. Commands run where there is no bus module."""

    def __init__(self, processes: Processes, directory: Path, fork_server: ForkServer | None) -> None:
        self._processes = processes
        self._directory = directory
        self._fork_server = fork_server

    def serve(
        self,
        service: str,
        *args: str,
        version: int = 1,
        where: str = "",
        replace: tuple[str, str] = ("\0", ""),
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a worker of a service, in another version or with a word of its program replaced by another one."""
        directory = self._directory / (where or service)
        directory.mkdir(exist_ok=True)
        program = SERVICES[service].replace("{version}", str(version)).replace(*replace)
        (directory / "bus.py").write_text(program)
        return self._processes.worker("bus", "--service-name", service, *args, cwd=directory, env=env)

    def listening(self, service: str, **given: Any) -> Process:
        """
        Start a worker that listens to events of `auth`; return it when they arrive, and it has announced itself.

        Which of the two is first differs.
        """
        worker = self.serve(service, **given)
        worker.wait_for_line("Ready")
        worker.wait_for_line("Events of auth .* arrive")
        return worker

    def services(self) -> tuple[Process, Process]:
        """Start a worker of either service, and return them when the one hears the other's events."""
        auth = self.serve("auth")
        shop = self.listening("shop")
        auth.wait_for_line("Ready")
        return auth, shop

    def start(self, *args: str, env: dict[str, str] | None = None) -> Process:
        """Start a command. It looks for peers longer than by default, for a busy machine."""
        wait = () if "--wait" in args or args[0] in OFF_THE_BUS else ("--wait", "20")
        return self._processes.lightbus(*args, *wait, cwd=self._directory, env=env)

    def run(self, *args: str, code: int = 0, env: dict[str, str] | None = None) -> Process:
        """Run a command to its end, and return it; fail if its exit code differs."""
        process = self.start(*args, env=env)
        assert process.wait(60) == code, process.report()
        return process

    def on_terminal(self, columns: int, *args: str) -> AbstractContextManager[Terminal]:
        """Run a command on a terminal of this many columns."""
        return on_terminal(columns, self._directory, *args, "--wait", "20", server=self._fork_server)

    def text(self, *args: str, code: int = 0, columns: int = 200) -> str:
        """Return the text output of a command, at a width of this many columns."""
        return self.run(*args, code=code, env={"COLUMNS": str(columns)}).stdout

    def schema_diff(self, *args: str, code: int = 0) -> str:
        """Return what `lightbus schema diff` shows."""
        return self.text("schema", "diff", *args, code=code)

    def json(self, *args: str, code: int = 0) -> list[dict[str, Any]]:
        """
        Return the objects that a command writes with --json, which nothing else may be among.

        Each of their fields has to be in docs/cli.md.
        """
        return self._objects(args[0], self.run(*args, "--json", code=code))

    def look(self, *args: str) -> list[dict[str, Any]]:
        """Return the same, complete or not: on a busy machine a peer may not answer in time (exit code 3)."""
        process = self.start(*args, "--json")
        assert process.wait(60) in (0, 3), process.report()
        return self._objects(args[0], process)

    def _objects(self, command: str, process: Process) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in process.stdout.splitlines()]
        assert {field for each in told for field in each} <= documented_fields(command)
        return told


def documented_fields(command: str) -> set[str]:
    """Return the fields of a command in docs/cli.md."""
    document = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    section = document.partition(f"### lightbus {command}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {field for row in rows for field in re.findall(r"`(\w+)`", row)}


@pytest.fixture
def commands(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fork_server: ForkServer | None
) -> Commands:
    """Yield test services, and commands to run against them."""
    monkeypatch.delenv("COLUMNS", raising=False)
    directory = tmp_path / "anywhere"
    directory.mkdir()
    return Commands(processes, directory, fork_server)
