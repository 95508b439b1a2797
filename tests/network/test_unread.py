"""A caller that requests much and reads nothing costs the worker bounded memory, and other callers no call."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers import Process, Processes
from helpers.zmtp import RawPeer, message
from lightbus.adapters.zmq.unread_replies import AHEAD, MAX_UNREAD
from lightbus.wire import envelope
from lightbus.wire.announcement import new_instance_id
from lightbus.wire.envelope import Request

from .conftest import Network, free_port

PROGRAMS = Path(__file__).parent / "programs"
MIB = 1024 * 1024
RESULTS, SIZE = 200, 4 * MIB
PATIENT = {"timeout": 60}
AT_WORK = 4 * 4 * SIZE
"""Bytes of results that are being made: as they are returned, and in a message, and with what is freed of others."""


@pytest.fixture
def connect() -> Iterator[Callable[[int], RawPeer]]:
    """Return a function that connects a caller that reads nothing, with a very small receive buffer."""
    with ExitStack() as closing:

        def connect(port: int) -> RawPeer:
            made = closing.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.connect(("127.0.0.1", port))
            return RawPeer(made, b"DEALER")

        yield connect


def memory(process: Process) -> int:
    """Return the largest memory of a process in bytes."""
    [kib] = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


@pytest.mark.parametrize("procedure", ["fetch", "fetch_def"])
def test_unread_results_are_bounded(
    network: Network, processes: Processes, connect: Callable[[int], RawPeer], procedure: str
) -> None:
    """They wait up to a limit, whatever the heartbeats; then their connection is closed, and that is logged."""
    network.use("insecure")
    port = free_port()
    config = network.config(
        network={"rpc_port": port, "heartbeat_interval": 20.0, "heartbeat_timeout": 60.0},
        worker={"rpc_queue": 2 * RESULTS, "max_queue_time": 60.0, "rpc_concurrency": 4},
    )
    worker = processes.worker("bulk", cwd=PROGRAMS, env={"LIGHTBUS_CONFIG": config})
    worker.wait_for_line("Ready")
    bus = network.bus()
    fetch = getattr(bus.bulk, procedure)
    fetch.call(size=1, bus_options=PATIENT)
    [instance] = [peer.instance for peer in bus.client.engine.snapshot.by_api["bulk"]]
    before = memory(worker)
    greedy = connect(port)
    for number in range(RESULTS):
        request = Request(instance, "bulk", procedure, 60.0, new_instance_id(), [], None, 0, {"size": SIZE})
        greedy.send(message(envelope.encode(request, number + 1)))
    worker.wait_for_line(r"A caller has not read while \d+ MiB of results .* was disconnected \(1 so far\)", 60)
    assert len(fetch.call(size=MIB, bus_options=PATIENT)) == MIB
    assert worker.output.count("A caller has not read") == 1
    # Of 800 MiB. A caller that takes some now and then may have more, up to `MAX_UNREAD_IN_ALL`: this one takes none.
    assert memory(worker) - before < AHEAD + MAX_UNREAD + AT_WORK
    assert worker.running


@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
def test_a_hundred_results_of_a_mebibyte(network: Network, processes: Processes, mode: str) -> None:
    """A caller that requested so much, and is busy with other work in the meantime, gets all of them."""
    network.use(mode)
    config = network.config(worker={"max_queue_time": 60.0})
    processes.worker("bulk", cwd=PROGRAMS, env={"LIGHTBUS_CONFIG": config}).wait_for_line("Ready")
    bus = network.bus()

    async def main() -> list[int]:
        await bus.bulk.fetch.call_async(size=1)
        calls = [bus.bulk.fetch.call_async(size=MIB, bus_options={"timeout": 60}) for _ in range(100)]
        return [len(result) for result in await asyncio.gather(*calls)]

    for _ in range(2):
        assert asyncio.run(main()) == [MIB] * 100
