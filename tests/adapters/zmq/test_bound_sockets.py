"""The bound sockets: what waits for a peer that does not read, or subscribes to too much, is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from helpers import wait_until_async
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.backlogs import MAX_TOPICS, Backlogs
from lightbus.adapters.zmq.connecting_sockets import Subscriber
from lightbus.adapters.zmq.security import HostSecurity, InsecureSecurity, Security
from lightbus.adapters.zmq.transport import ZmqTransport

MODES: list[Callable[[Path], tuple[Security, str]]] = [
    lambda path: (HostSecurity(places=Places.only(path)), f"ipc://{path}/pub"),
    lambda path: (InsecureSecurity(bus="test", addresses=("127.0.0.1",)), "tcp://127.0.0.1:*"),
]


@pytest.mark.parametrize("mode", MODES, ids=["host", "insecure"])
def test_a_subscriber_that_does_not_read_is_disconnected(
    mode: Callable[[Path], tuple[Security, str]], tmp_path: Path
) -> None:
    """Waiting bytes at the publisher are bounded, and a subscriber that reads misses nothing."""

    async def main() -> None:
        security, endpoint = mode(tmp_path)
        transport = ZmqTransport(security)
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


def test_excessive_topics_end_the_connection(tmp_path: Path) -> None:
    """A topic longer than any name, or more topics than any listener has: libzmq keeps none of them."""

    async def main() -> None:
        transport = ZmqTransport(HostSecurity(places=Places.only(tmp_path)))
        topics: list[bytes] = []
        publisher = transport.publisher(lambda topic, subscribed: topics.append(topic) if subscribed else None)
        publisher.bind(f"ipc://{tmp_path}/pub")
        assert transport.gate is not None
        receive_limit = transport.gate.receive_limit  # which may close the connection first
        with zmq.Context() as context, context.socket(zmq.SUB) as long, context.socket(zmq.SUB) as many:
            for each in (long, many):
                each.linger, each.sndhwm, each.reconnect_ivl = 0, 0, -1
                each.connect(f"ipc://{tmp_path}/pub")
            long.subscribe(b"x" * 17_000)
            for number in range(MAX_TOPICS // 10_000 + 50):
                many.subscribe(b"%010d" % number * 1000)
            await wait_until_async(lambda: publisher.backlogs.too_many_topics + receive_limit.closed == 1, timeout=20)
            assert all(len(topic) == 10_000 for topic in topics)
        publisher.close()
        transport.close()

    asyncio.run(main())
