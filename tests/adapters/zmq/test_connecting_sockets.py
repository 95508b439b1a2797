"""The connecting sockets survive cases in which libzmq alone aborts the process."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq

from helpers import Processes, wait_until, wait_until_async
from helpers.surroundings import Surroundings
from helpers.zmtp import RawPeer, message, ping
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.ports.transport import LinkState

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

ROUNDS = 6

BLOCKED = """
import asyncio, sys, time
from pathlib import Path
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import UNREAD, ZmqTransport

async def main():
    frames = []
    transport = ZmqTransport(HostSecurity(places=Places.only(Path("."))))
    subscriber = transport.subscriber(sys.argv[1], frames.append)
    subscriber.subscribe(b"")
    for number in range(int(sys.argv[2])):
        while number % 2 and b"before" not in frames:
            await asyncio.sleep(0.001)
        if sys.argv[3] == "read":
            subscriber.pause()
        print("blocks", number, flush=True)
        while not Path(str(number)).exists():
            time.sleep(0.001)
        while frames.count(b"hello") < UNREAD - 1:  # the one before is not taken off until more are read
            if sys.argv[3] == "read":
                subscriber.read()
            await asyncio.sleep(0.001)
        subscriber.resume()
        await asyncio.sleep(0.01)
        frames.clear()
        print("has read", number, flush=True)
    subscriber.close()
    transport.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
@pytest.mark.parametrize("ttl", [0, 300], ids=["kernel", "ping"])
def test_subscriber_survives_a_long_pause(processes: Processes, tmp_path: Path, scheme: str, ttl: int) -> None:
    """
    A subscriber whose queue was full for many heartbeat timeouts continues to read, and its process does not abort.

    The same holds if a foreign publisher sends pings with a time to live. In both cases libzmq alone would abort the
    process.
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


@pytest.mark.parametrize("how", ["loop", "read"])
def test_publisher_that_filled_the_queue_dies(processes: Processes, tmp_path: Path, how: str) -> None:
    """
    A publisher sends more than the queue holds, with heartbeats in between, and ends: the subscriber survives it.

    It reads the messages in the queue, as the loop finds them or on request, and reconnects. libzmq alone would abort
    the process.
    """
    with socket.create_server(("127.0.0.1", 0)) as publisher:
        endpoint = f"tcp://127.0.0.1:{publisher.getsockname()[1]}"
        publisher.settimeout(60)
        subscriber = processes.python("-c", BLOCKED, endpoint, str(ROUNDS), how, cwd=tmp_path)
        for number in range(ROUNDS):
            peer = RawPeer(publisher.accept()[0], b"XPUB")
            if number % 2:  # in every second run a message is read before
                peer.send(message(b"before"))
            subscriber.wait_for_line(f"blocks {number}$")
            peer.send(message(b"hello") * 70 + ping() * 3 + (message(b"hello") + ping()) * 200)
            wait_until(lambda peer=peer: not unread(peer.connection))
            peer.reset()
            (tmp_path / str(number)).touch()
            subscriber.wait_for_line(f"has read {number}$")
        assert subscriber.wait() == 0, subscriber.report()


@pytest.mark.parametrize("is_link", [False, True])
def test_given_up_connection_is_read_then_reconnected(surroundings: Surroundings, is_link: bool) -> None:
    """Earlier messages are read, later ones are not sent; then the dealer reconnects, and a link reports its end."""
    heard: list[bytes] = []
    states: list[LinkState] = []

    async def main(transport: ZmqTransport) -> None:
        router = transport.router(lambda routing_id, frame: senders.append(routing_id))
        senders: list[bytes] = []
        endpoint = router.bind(f"ipc://{surroundings.runtime}/router")
        dealer = transport.dealer(endpoint, heard.append, on_state=states.append if is_link else None)
        await wait_until_async(lambda: dealer.send(b"hello"))
        await wait_until_async(lambda: bool(senders))
        router.send(senders[0], b"before")
        while not dealer._has_more():  # busy waiting: the loop must not read
            pass
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(dealer.give_up).result(60)
        assert not dealer.send(b"lost")
        await wait_until_async(lambda: b"before" in heard)
        if is_link:
            await wait_until_async(lambda: states[-1] is LinkState.DISCONNECTED)
        else:
            await wait_until_async(lambda: dealer.send(b"again"))
            await wait_until_async(lambda: len(senders) == 2)
            assert senders[1] != senders[0]
        dealer.close()
        assert not dealer.give_up()
        router.close()

    transport = ZmqTransport(HostSecurity(places=Places.only(surroundings.runtime)))
    try:
        asyncio.run(main(transport))
    finally:
        transport.close()


def unread(connection: socket.socket) -> int:
    """Return how many bytes the other end, on this host, has not read yet."""
    waiting = int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    if connection.family == socket.AF_UNIX:
        return waiting
    other = f":{connection.getpeername()[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return waiting + sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(other))


def test_loop_sleeps_during_a_pause(tmp_path: Path) -> None:
    """A descriptor stays readable until its socket is read: the loop must not be woken by it repeatedly."""

    async def main() -> None:
        transport = ZmqTransport(HostSecurity(places=Places.only(tmp_path)))
        topics: list[bytes] = []
        read: list[bytes] = []
        publisher = transport.publisher(lambda topic, subscribed: topics.append(topic))
        subscriber = transport.subscriber(publisher.bind(f"ipc://{tmp_path}/pub"), read.append)
        subscriber.subscribe(b"")
        await wait_until_async(lambda: topics)
        looks: list[bool] = []
        readable = subscriber._readable
        subscriber.pause()
        subscriber.loop.add_reader(subscriber._descriptor, lambda: looks.append(subscriber._paused) or readable())
        publisher.send(b"1")
        await wait_until_async(lambda: subscriber._has_missed_report)
        publisher.send(b"2")
        for _ in range(100):
            await asyncio.sleep(0)  # the loop would look at the descriptor each time
        assert looks == [True]
        subscriber.resume()
        await wait_until_async(lambda: read == [b"1", b"2"])
        for each in (subscriber, publisher):
            each.close()
        transport.close()

    asyncio.run(main())


def test_pause_loses_nothing_and_is_cheap(tmp_path: Path) -> None:
    """Of a hundred paused publishers, only those that sent something are checked on resume."""

    async def main() -> None:
        transport = ZmqTransport(HostSecurity(places=Places.only(tmp_path)))
        read: list[tuple[int, bytes]] = []
        publishers = [transport.publisher(lambda topic, subscribed: topics.append(topic)) for _ in range(2)]
        topics: list[bytes] = []
        subscribers: list[Any] = []
        for number, publisher in enumerate(publishers):
            bound = publisher.bind(f"ipc://{tmp_path}/pub{number}")
            subscribers.append(transport.subscriber(bound, lambda frame, of=number: read.append((of, frame))))
            subscribers[-1].subscribe(b"")
        await wait_until_async(lambda: len(topics) == 2)
        await wait_until_async(lambda: not any(each._read_is_scheduled for each in subscribers))
        for count in range(1, 50):
            for subscriber in subscribers:
                subscriber.pause()
            publishers[0].send(b"%d" % count)
            await wait_until_async(lambda: subscribers[0]._has_missed_report)
            assert len(read) == count - 1
            for subscriber in subscribers:
                subscriber.resume()
            assert [each._read_is_scheduled for each in subscribers] == [True, False]
            await wait_until_async(lambda count=count: len(read) == count)
        publishers[1].send(b"at last")
        await wait_until_async(lambda: read[-1] == (1, b"at last"))
        assert [frame for of, frame in read if of == 0] == [b"%d" % count for count in range(1, 50)]
        for each in (*subscribers, *publishers):
            each.close()
        transport.close()

    asyncio.run(main())
