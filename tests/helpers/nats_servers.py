"""JetStream servers on loopback, which end with the test; without `nats-server`, the test is skipped."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from .waiting import wait_until

if TYPE_CHECKING:
    from lightbus.adapters.nats.api_stream import ApiStream

__all__ = ["NatsCluster", "NatsServer", "on_stream"]


class NatsServer:
    """One server, with its own directory."""

    def __init__(self, *options: str) -> None:
        program = shutil.which("nats-server")
        if program is None:
            pytest.skip("there is no nats-server here (Debian's package nats-server)")
        if importlib.util.find_spec("nats") is None:
            pytest.skip("nats-py is not installed (the extra jetstream)")
        self._program = program
        self._options = options
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
        """Begin without it; it is stopped in the end."""
        try:
            yield self
        finally:
            self.kill()
            self._directory.cleanup()

    def start(self, settings: str = "") -> None:
        """Start it (with its own settings) with its stored data, and return when it accepts connections."""
        arguments = ["-js", "-a", "127.0.0.1", "-p", str(self.port), "-sd", self._directory.name]
        arguments += self._options
        if settings:
            path = Path(self._directory.name, "server.conf")
            path.write_text(settings)
            arguments += ["-c", str(path)]
        self._process = subprocess.Popen([self._program, *arguments], stderr=subprocess.DEVNULL)
        wait_until(self._answers, 10.0)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not killed."""
        return self._process is not None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop it in this context, with all its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class NatsCluster:
    """Three servers that replicate everything."""

    def __init__(self) -> None:
        ports = [_free_port() for _ in range(3)]
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.servers = {
            name: NatsServer(
                "-n", name, "--cluster_name", "shop", "--cluster", f"nats://127.0.0.1:{port}", "--routes", routes
            )
            for name, port in zip(("one", "two", "three"), ports, strict=True)
        }

    @property
    def urls(self) -> list[str]:
        """Return their URLs."""
        return [server.url for server in self.servers.values()]

    def __enter__(self) -> NatsCluster:
        for server in self.servers.values():
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers.values():
            server.__exit__(kind, error, trace)

    def leader(self, stream: str) -> str | None:
        """Return the name of the server that leads a stream; None if there is none at the moment."""
        return asyncio.run(self._leader(stream))

    async def _leader(self, stream: str) -> str | None:
        import nats

        running = [server.url for server in self.servers.values() if server.is_running]
        try:
            client = await nats.connect(running, connect_timeout=1, max_reconnect_attempts=1, error_cb=_say_nothing)
        except (OSError, TimeoutError, nats.errors.Error):
            return None
        try:
            info = await client.jetstream().stream_info(stream)
            return None if info.cluster is None else info.cluster.leader
        except (TimeoutError, nats.errors.Error):
            return None
        finally:
            await client.close()


async def _say_nothing(error: Exception) -> None:
    """Ignore errors during a check of a cluster: its answers show them."""


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def on_stream(server: NatsServer, bus: str, test: Callable[[ApiStream], Awaitable[Any]]) -> None:
    """Run a test with the stream of the API `shop`, on a separate bus."""
    from lightbus.adapters.nats.api_stream import ApiStream
    from lightbus.adapters.nats.connection import NatsConnection
    from lightbus.adapters.nats.settings import NatsSettings

    async def main() -> None:
        connection = NatsConnection(NatsSettings(servers=(server.url,)))
        stream = ApiStream(connection, bus, "shop")
        try:
            await test(stream)
        finally:
            await stream.close()
            await connection.close()

    asyncio.run(main())
