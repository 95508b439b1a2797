"""Servers of a JetStream on loopback, which end with the test; where there is no `nats-server`, the test is skipped."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType

import pytest

from .waiting import wait_until

__all__ = ["NatsServer"]


class NatsServer:
    """One server, with a directory of its own."""

    def __init__(self) -> None:
        program = shutil.which("nats-server")
        if program is None:
            pytest.skip("there is no nats-server here (Debian's package nats-server)")
        if importlib.util.find_spec("nats") is None:
            pytest.skip("nats-py is not installed (the extra jetstream)")
        self._program = program
        self.port = _free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._directory = tempfile.TemporaryDirectory(prefix="lightbus-nats-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._directory.cleanup()

    @contextmanager
    def stopped(self) -> Iterator[NatsServer]:
        """Begin without it; it ends behind."""
        try:
            yield self
        finally:
            self.kill()
            self._directory.cleanup()

    def start(self, settings: str = "") -> None:
        """Start it (with settings of its own), with what it has kept, and return when it takes connections."""
        arguments = ["-js", "-a", "127.0.0.1", "-p", str(self.port), "-sd", self._directory.name]
        if settings:
            path = Path(self._directory.name, "server.conf")
            path.write_text(settings)
            arguments += ["-c", str(path)]
        self._process = subprocess.Popen([self._program, *arguments], stderr=subprocess.DEVNULL)
        wait_until(self._answers, 10.0)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
