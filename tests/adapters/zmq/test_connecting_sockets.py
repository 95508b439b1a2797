"""The sockets that connect: what they survive that libzmq alone does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from helpers import Processes

SUBSCRIBER = """
import asyncio, sys, time
from pathlib import Path
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport

async def main():
    count = 0
    def read(frame):
        nonlocal count
        count += 1
        if frame == b"end":
            done.set()
    done = asyncio.Event()
    transport = ZmqTransport(HostSecurity(places=Places.only(Path("."))), heartbeat_interval=0.1, heartbeat_timeout=0.3)
    subscriber = transport.subscriber(sys.argv[1], read)
    subscriber.subscribe(b"")
    await asyncio.sleep(0.2)
    print("subscribed", flush=True)
    time.sleep(float(sys.argv[2]))
    print("awake", flush=True)
    await asyncio.wait_for(done.wait(), 60)
    print("read", count, flush=True)
    subscriber.close()
    transport.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
@pytest.mark.parametrize("ttl", [0, 300], ids=["kernel", "ping"])
def test_a_subscriber_that_does_not_read_for_long_lives(
    processes: Processes, tmp_path: Path, scheme: str, ttl: int
) -> None:
    """
    Its queue is full for many times the timeout of heartbeats, and then it reads: its process lives, and reads on.

    A publisher that is no Lightbus may ping with a time to live, too. libzmq alone ends the process (abort) for both.
    """
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        if ttl:
            publisher.heartbeat_ivl, publisher.heartbeat_timeout, publisher.heartbeat_ttl = 100, 60_000, ttl
        publisher.bind(f"ipc://{tmp_path}/pub" if scheme == "ipc" else "tcp://127.0.0.1:*")
        endpoint = publisher.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        subscriber = processes.python("-c", SUBSCRIBER, endpoint, "1.5", cwd=tmp_path)
        assert publisher.recv() == b"\x01"
        for _ in range(5000):
            publisher.send(b"x" * 2000)
        subscriber.wait_for_line("awake")
        while subscriber.running and "read " not in subscriber.output:
            publisher.send(b"end")
            publisher.poll(20)
        assert subscriber.wait() == 0, subscriber.report()
