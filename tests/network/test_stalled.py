"""A worker or a caller whose loop is blocked, or that gets more than it can read: memory stays bounded."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from helpers import Process, Processes
from lightbus import BusPath
from lightbus.adapters.zmq.meter import Meter
from lightbus.adapters.zmq.receive_limit import MAX_WAITING

from .conftest import Network, free_port

pytestmark = pytest.mark.skipif(not Meter.POSSIBLE, reason="only Linux counts what comes over a connection")

PROGRAMS = Path(__file__).parent / "programs"
MIB = 1024 * 1024


class Flood:
    """Sends endless different messages, over a connection that is made again whenever it is closed."""

    def __init__(self, kind: int, endpoint: str, size: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(kind)
        # Each time that it is reached, somebody waits for the processor: many small ones go at once.
        self._socket.linger, self._socket.sndhwm = 0, max(50, MIB // size)
        self._socket.connect(endpoint)
        self._stop = threading.Event()
        self._size = size
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(100, zmq.POLLOUT):
                self._socket.send((b"\1" + os.urandom(100)).ljust(self._size))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)


def memory_of(process: Process) -> int:
    """Return the largest memory of a process in bytes."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)[0]) * 1024


class Place:
    """A worker with its endpoints, and its flooding clients."""

    def __init__(self, network: Network, processes: Processes, mode: str) -> None:
        network.use(mode)
        ports = {"rpc_port": free_port(), "event_port": free_port()}
        config = network.config(network=ports if mode == "insecure" else {})
        self.worker: Process = processes.worker("stands", cwd=PROGRAMS, env={"LIGHTBUS_CONFIG": config})
        self.worker.wait_for_line("Ready")
        self.bus: BusPath = network.bus()
        self.bus.stands.quick()
        [peer] = self.bus.client.engine.snapshot.by_api["stands"]
        places = self.bus.client.engine.network.places
        if places is None:
            self.endpoints = {name: f"tcp://127.0.0.1:{port}" for name, port in ports.items()}
        else:
            path = places.first
            names = {"rpc_port": "rpc", "event_port": "pub"}
            self.endpoints = {name: f"ipc://{path}/{peer.instance}.{end}" for name, end in names.items()}
        self.before = self.memory()
        self._floods: list[Flood] = []

    def flood(self, kind: int, size: int) -> None:
        """Flood it at one of its sockets, until the end of the test."""
        endpoint = self.endpoints["rpc_port" if kind == zmq.DEALER else "event_port"]
        self._floods.append(Flood(kind, endpoint, size))

    @contextmanager
    def blocked_loop(self, end: Path) -> Iterator[None]:
        """Block its event loop within the context."""
        options = {"until": str(end), "bus_options": {"timeout": 120}}
        blocked = threading.Thread(target=self.bus.stands.stand_still, kwargs=options)
        blocked.start()
        try:
            self.worker.wait_for_line("The event loop has been blocked for")
            yield
        finally:
            end.touch()
            blocked.join()

    def memory(self) -> int:
        """Return the largest memory of the worker in bytes."""
        return memory_of(self.worker)

    def close(self) -> None:
        while self._floods:
            self._floods.pop().close()


@pytest.fixture(params=["host", "insecure"])
def place(network: Network, processes: Processes, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Return a worker whose loop can be blocked."""
    made = Place(network, processes, request.param)
    yield made
    made.close()


def test_messages_during_a_blocked_loop_are_bounded(place: Place, tmp_path: Path) -> None:
    """The largest sender is disconnected, and not admitted until all is read; then the worker continues."""
    with place.blocked_loop(tmp_path / "end"):
        for _ in range(3):
            place.flood(zmq.DEALER, 200_000)
        place.worker.wait_for_line(r"Messages wait to be read.*no connection is accepted until they are read", 60)
        assert place.memory() - place.before < 4 * MAX_WAITING
    place.close()
    place.bus.stands.quick(bus_options={"timeout": 30})
    assert place.worker.output.count("Messages wait to be read") == 1
    assert place.worker.running


def test_subscriptions_are_bounded(place: Place, tmp_path: Path) -> None:
    """A client that sends millions of them is disconnected before they keep the worker busy for long."""
    with place.blocked_loop(tmp_path / "end"):  # whatever the speed of the machine: none is taken in meanwhile
        place.flood(zmq.XSUB, 100)
        place.worker.wait_for_line("bytes of subscriptions faster than they could be read", 60)
        place.close()
    place.bus.stands.quick(bus_options={"timeout": 60})
    assert place.memory() - place.before < 1024 * MIB
    assert place.worker.running


@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
@pytest.mark.parametrize("door", ["async", "sync"])
def test_unrequested_answers_are_bounded(
    network: Network, processes: Processes, tmp_path: Path, mode: str, door: str
) -> None:
    """A worker sends them to a caller that does not read: its connection is closed in time, and made again."""
    network.use(mode)
    end = tmp_path / "end"
    processes.worker("pours", cwd=PROGRAMS).wait_for_line("Ready")
    caller = processes.python("pours_caller.py", door, str(end), cwd=PROGRAMS)
    caller.wait_for_line("blocks")
    before = memory_of(caller)
    what = "Unrequested messages wait" if door == "async" else "sent an unrequested message over an idle"
    caller.wait_for_line(what, 60)
    assert caller.running
    assert memory_of(caller) - before < 4 * MAX_WAITING
    end.touch()
    caller.wait_for_line("goes on", 60)
    assert caller.wait() == 0, caller.report()
    assert caller.output.count(what) == 1
