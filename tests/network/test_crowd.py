"""A worker with few descriptors and many connections: it keeps running, and serves the connected processes."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import Door, Process, Processes, scaled, wait_until

from .conftest import SERVICES, Network

LIMIT = 160
RUN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv.pop(1)), int(sys.argv.pop(1))))
from lightbus.cli import main
main(prog_name="lightbus")
"""

CALLER = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
import lightbus
bus = lightbus.create(service_name="caller")
answers = []
def call():
    try:
        answers.append(bus.work.hold(seconds=0.1, bus_options={"timeout": 60}))
    except lightbus.LightbusException as error:
        answers.append(repr(error))
threads = [threading.Thread(target=call) for _ in range(30)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
bus.work.happened.fire(what="done", bus_options={"timeout": 60})
print(len(answers), *set(answers))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")


@pytest.fixture
def start(processes: Processes) -> Callable[..., Process]:
    """Return a function that starts a worker with a soft and a hard limit of descriptors."""

    def start(soft: int, hard: int) -> Process:
        worker = processes.python("-c", RUN, str(soft), str(hard), "run", "--bus", "peer", cwd=SERVICES)
        worker.wait_for_line("Ready")
        return worker

    return start


class Crowd:
    """Connections that send nothing."""

    def __init__(self, worker: Process) -> None:
        self._addresses = _listens_at(worker)
        self._connections: list[socket.socket] = []

    def come(self, count: int) -> None:
        """Connect this many times, as quickly as possible."""
        for number in range(count):
            address = self._addresses[number % len(self._addresses)]
            connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            self._connections.append(connection)
            connection.settimeout(1)
            try:
                connection.connect(address)
            except (BlockingIOError, TimeoutError, ConnectionResetError):  # more wait already than the kernel lets
                continue

    def go(self) -> None:
        """Close all."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()


def _listens_at(worker: Process) -> list[str | tuple[str, int]]:
    match = worker.wait_for_line(r"Serving .* at (ipc://(.*)\.rpc|tcp://)")
    if match[2]:
        return [f"{match[2]}.rpc", f"{match[2]}.pub"]
    descriptors = Path(f"/proc/{worker.pid}/fd")
    sockets = {os.readlink(each) for each in descriptors.iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    ports = [row[1].removeprefix("0100007F:") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return [("127.0.0.1", int(port, 16)) for port in ports]


@pytest.fixture
def crowd() -> Iterator[Callable[[Process], Crowd]]:
    """Return a function that makes many connections to a worker; they are closed at the end of the test."""
    crowds: list[Crowd] = []

    def make(worker: Process) -> Crowd:
        crowds.append(Crowd(worker))
        return crowds[-1]

    yield make
    for each in crowds:
        each.go()


def descriptors(worker: Process) -> int:
    """Return the number of descriptors of a process."""
    return len(os.listdir(f"/proc/{worker.pid}/fd"))


@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
def test_many_connections(
    network: Network, start: Callable[..., Process], crowd: Callable[[Process], Crowd], mode: str, door: Door
) -> None:
    """Connected processes are served, others are refused, which is logged, and new ones get in when there is room."""
    network.use(mode)
    worker = start(LIMIT, LIMIT)
    bus = network.bus()
    assert door.call(bus.work.who) == worker.pid
    many = crowd(worker)
    many.come(scaled(5000, least=2 * LIMIT))
    for _ in range(100):
        assert door.call(bus.work.who) == worker.pid
    assert descriptors(worker) < LIMIT
    worker.wait_for_line("refused 1 connections so far, .*: this process has as many connections open as it can")
    many.go()
    newcomer = network.bus()
    wait_until(lambda: descriptors(worker) < LIMIT // 2, what="the crowd has gone")
    assert newcomer.work.who(bus_options={"timeout": 20}) == worker.pid


@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
@pytest.mark.parametrize("limits", [(64, 64), (256, 64), (64, 256)], ids=str)
def test_many_threads_and_few_files(
    network: Network,
    start: Callable[..., Process],
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    limits: tuple[int, int],
) -> None:
    """With few files, a worker or a caller with many threads: each call is answered over the existing sockets."""
    network.use(mode)
    patient = {"worker": {"max_queue_time": 60.0}, "discovery": {"wait": 60.0}}
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(network={"heartbeat_timeout": 30.0}, **patient))
    of_worker, of_caller = limits
    worker = start(of_worker, of_worker)
    caller = processes.python("-c", CALLER, str(of_caller))
    assert caller.wait(100) == 0, caller.report()
    assert caller.stdout.splitlines() == [f"30 {worker.pid}"]
    assert "Traceback" not in caller.stderr + worker.output


def test_the_limit_is_raised(start: Callable[..., Process]) -> None:
    """`lightbus run` raises the limit of descriptors as far as its process may."""
    worker = start(100, 400)
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    assert re.search(r"^Max open files\s+400\s+400", limits, re.MULTILINE)
