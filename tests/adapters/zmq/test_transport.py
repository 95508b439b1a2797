"""The sockets on real connections: what they survive that libzmq alone does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from helpers import Processes, wait_until_async
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.backlogs import MAX_TOPICS, Backlogs
from lightbus.adapters.zmq.security import HostSecurity, InsecureSecurity, Security
from lightbus.adapters.zmq.transport import Subscriber, Transport

SUBSCRIBER = """
import asyncio, sys, time
from pathlib import Path
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import Transport

async def main():
    count = 0
    def read(frame):
        nonlocal count
        count += 1
        if frame == b"end":
            done.set()
    done = asyncio.Event()
    transport = Transport(HostSecurity(places=Places.only(Path("."))), heartbeat_interval=0.1, heartbeat_timeout=0.3)
    subscriber = transport.subscriber(sys.argv[1], read)
    subscriber.subscribe(b"")
    await asyncio.sleep(0.2)
    print("subscribed", flush=True)
    time.sleep(float(sys.argv[2]))
    print("awake", flush=True)
    await asyncio.wait_for(done.wait(), 20)
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


MODES: list[Callable[[Path], tuple[Security, str]]] = [
    lambda path: (HostSecurity(places=Places.only(path)), f"ipc://{path}/pub"),
    lambda path: (InsecureSecurity(bus="test", addresses=("127.0.0.1",)), "tcp://127.0.0.1:*"),
]


@pytest.mark.parametrize("mode", MODES, ids=["host", "insecure"])
def test_a_subscriber_that_does_not_read_is_disconnected(
    mode: Callable[[Path], tuple[Security, str]], tmp_path: Path
) -> None:
    """What waits for it at the publisher is bounded in bytes, and one that reads misses nothing meanwhile."""

    async def main() -> None:
        security, endpoint = mode(tmp_path)
        transport = Transport(security)
        topics: list[bytes] = []
        publisher = transport.publisher(lambda topic, subscribed: topics.append(topic) if subscribed else None)
        publisher.backlogs = Backlogs(8 * 1024 * 1024)
        bound = publisher.bind(endpoint)
        read: list[int] = []
        subscribers: list[Subscriber] = [
            transport.subscriber(bound, lambda frame: read.append(len(frame))),
            transport.subscriber(bound, lambda frame: None),
        ]
        for subscriber in subscribers:
            subscriber.subscribe(b"")
        await wait_until_async(lambda: len(publisher.backlogs) == 2)
        subscribers[1].pause()
        frame = b"x" * 100_000
        for count in range(1, 400):
            publisher.send(frame)
            await wait_until_async(lambda count=count: len(read) == count)
        assert publisher.backlogs.closed == 1
        for each in (*subscribers, publisher):
            each.close()
        transport.close()

    asyncio.run(main())


DEAF = """
import asyncio, sys, time
from pathlib import Path
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import Transport

async def main():
    transport = Transport(HostSecurity(places=Places.only(Path("."))), heartbeat_interval=0.1, heartbeat_timeout=5.0)
    count = 0
    def read(*frames):
        nonlocal count
        count += 1
    if sys.argv[1] == "router":
        socket = transport.router(read)
        print("at", socket.bind(sys.argv[2]), flush=True)
    else:
        socket = transport.dealer(sys.argv[2], read)
        socket.send_later(b"hello")
        await asyncio.sleep(0.2)
        print("asked", flush=True)
    time.sleep(2.0)
    print("awake", flush=True)
    while sys.argv[1] == "router" and count < 10_000:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    print("read", count, flush=True)
    socket.close()
    transport.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
@pytest.mark.parametrize("kind", ["router", "dealer"])
def test_a_peer_that_dies_before_a_full_queue(processes: Processes, tmp_path: Path, scheme: str, kind: str) -> None:
    """
    It sends more than the queue takes while nobody reads, and is gone: the process lives, and a worker reads what came.

    libzmq alone ends the process (abort) when its next heartbeat is due.
    """
    endpoint = f"ipc://{tmp_path}/rpc" if scheme == "ipc" else "tcp://127.0.0.1:*"
    with zmq.Context() as context, context.socket(zmq.DEALER if kind == "router" else zmq.ROUTER) as peer:
        peer.linger, peer.sndhwm = 0, 0
        peer.heartbeat_ivl, peer.heartbeat_timeout, peer.heartbeat_ttl = 10, 60_000, 60_000
        if kind == "router":
            deaf = processes.python("-c", DEAF, kind, endpoint, cwd=tmp_path)
            peer.connect(deaf.wait_for_line(r"at (\S+)")[1])
            start: list[bytes] = []
        else:
            peer.bind(endpoint)
            deaf = processes.python("-c", DEAF, kind, peer.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode(), cwd=tmp_path)
            assert peer.poll(10_000)
            start = [peer.recv_multipart()[0]]
            deaf.wait_for_line("asked")
        for _ in range(40_000):
            peer.send_multipart([*start, b"x" * 500])
        peer.poll(500)  # more than the queue takes, and the kernel: not all of it is ever sent
    deaf.wait_for_line("awake")
    assert deaf.wait() == 0, deaf.report()


def test_topics_that_no_listener_has_are_refused(tmp_path: Path) -> None:
    """A topic longer than any name, or more of them than any listener has, ends the connection: libzmq keeps none."""

    async def main() -> None:
        transport = Transport(HostSecurity(places=Places.only(tmp_path)))
        topics: list[bytes] = []
        publisher = transport.publisher(lambda topic, subscribed: topics.append(topic) if subscribed else None)
        publisher.bind(f"ipc://{tmp_path}/pub")
        with zmq.Context() as context, context.socket(zmq.SUB) as long, context.socket(zmq.SUB) as many:
            for each in (long, many):
                each.linger, each.sndhwm, each.reconnect_ivl = 0, 0, -1
                each.connect(f"ipc://{tmp_path}/pub")
            long.subscribe(b"x" * 17_000)
            for number in range(MAX_TOPICS // 10_000 + 50):
                many.subscribe(b"%010d" % number * 1000)
            await wait_until_async(lambda: publisher.backlogs.too_many_topics == 1, timeout=20)
            assert all(len(topic) == 10_000 for topic in topics)
        publisher.close()
        transport.close()

    asyncio.run(main())
