"""A caller that asks for much and reads nothing costs the worker a bounded amount of memory, and nobody else a call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from helpers import Process, Processes
from lightbus.adapters.zmq.unread import MAX_UNREAD
from lightbus.wire import envelope
from lightbus.wire.announcement import new_instance_id
from lightbus.wire.envelope import Request

from .conftest import Network, free_port

PROGRAMS = Path(__file__).parent / "programs"
MIB = 1024 * 1024
RESULTS, SIZE = 200, 4 * MIB


@pytest.fixture
def greedy() -> Iterator[zmq.Socket[bytes]]:
    """Give a socket whose end at libzmq stops to read as soon as one message waits for us, and takes no heartbeats."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as made:
        made.linger = 0
        made.rcvhwm = 1
        yield made


def memory(process: Process) -> int:
    """Return the bytes of memory that a process has had at most."""
    [kib] = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


@pytest.mark.parametrize("procedure", ["fetch", "fetch_def"])
def test_results_that_nobody_reads(
    network: Network, processes: Processes, greedy: zmq.Socket[bytes], procedure: str
) -> None:
    """They wait up to a bound, whatever heartbeats would notice; then their connection is closed, and it is said."""
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
    fetch.call(size=1)
    [instance] = [peer.instance for peer in bus.client.engine.snapshot.by_api["bulk"]]
    before = memory(worker)
    greedy.connect(f"tcp://127.0.0.1:{port}")
    for number in range(RESULTS):
        request = Request(instance, "bulk", procedure, 60.0, new_instance_id(), [], None, 0, {"size": SIZE})
        greedy.send(envelope.encode(request, number + 1))
    worker.wait_for_line(r"A caller has not read while \d+ MiB of results .* was disconnected \(1 so far\)", 60)
    assert len(fetch.call(size=MIB)) == MIB
    assert worker.output.count("A caller has not read") == 1
    # Of 800 MiB. Some come while it is noticed (104 to 283 MiB were seen), and glibc keeps some of what was freed.
    assert memory(worker) - before < MAX_UNREAD + 300 * MIB
    assert worker.running


@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
def test_a_hundred_results_of_a_mebibyte(network: Network, processes: Processes, mode: str) -> None:
    """A caller that has asked for so much, and is busy with something else meanwhile, gets it all."""
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
