"""The options of the sockets survive cases in which libzmq alone aborts the process."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
import zmq

from helpers import Processes
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.exceptions import TransportError

DEAF = """
import asyncio, sys, time
from pathlib import Path
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport

async def main():
    transport = ZmqTransport(HostSecurity(places=Places.only(Path("."))), heartbeat_interval=0.1, heartbeat_timeout=5.0)
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

FULL = """
import os, resource
from pathlib import Path
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.exceptions import TransportError

def fill():
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass

held = []
security = HostSecurity(places=Places.only(Path(".")))
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 40, hard))
for free in range(12):
    fill()
    for each in held[:free]:
        os.close(each)
    del held[:free]
    transport = None
    try:
        transport = ZmqTransport(security)
        transport.blocking_dealer("tcp://127.0.0.1:1").close()
        print("made")
    except TransportError as error:
        assert "Too many open files. Is the limit of open files (ulimit -n) too low?" in str(error), error
        print("refused")
    finally:
        if transport is not None:
            transport.close()
"""


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
@pytest.mark.parametrize("kind", ["router", "dealer"])
def test_peer_that_filled_the_queue_dies(processes: Processes, tmp_path: Path, scheme: str, kind: str) -> None:
    """
    A peer sends more than the queue holds while nothing is read, and ends: the process lives, and a worker reads it.

    libzmq alone would abort the process when its next heartbeat is due, or when it answers one of the peer's.
    """
    endpoint = f"ipc://{tmp_path}/rpc" if scheme == "ipc" else "tcp://127.0.0.1:*"
    with zmq.Context() as context, context.socket(zmq.DEALER if kind == "router" else zmq.ROUTER) as peer:
        peer.linger, peer.sndhwm = 0, 0
        peer.heartbeat_ivl, peer.heartbeat_timeout, peer.heartbeat_ttl = 1, 60_000, 60_000
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
        peer.poll(500)  # more than the queue and the kernel's buffers hold: some is never sent
    deaf.wait_for_line("awake")
    assert deaf.wait() == 0, deaf.report()


class Limited:
    """A context that has sockets for some only, and knows those that are open."""

    def __init__(self, transport: ZmqTransport, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 100
        self.made: list[zmq.Socket[bytes]] = []
        make = transport._context.socket

        def socket(kind: int) -> zmq.Socket[bytes]:
            if not self.left:
                raise zmq.ZMQError(errno.EMFILE)
            self.left -= 1
            self.made.append(make(kind))
            return self.made[-1]

        monkeypatch.setattr(transport._context, "socket", socket)

    @property
    def open(self) -> int:
        return sum(not each.closed for each in self.made)


@pytest.mark.parametrize(
    ("kind", "needed", "kept"),
    [("router", 5, 3), ("publisher", 5, 3), ("dealer", 2, 0), ("subscriber", 1, 0), ("blocking_dealer", 1, 0)],
)
def test_what_cannot_be_opened_as_a_whole_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, needed: int, kept: int
) -> None:
    """Whichever socket is the first that there is no descriptor for. The gate is kept; the next attempt works."""
    transport = ZmqTransport(HostSecurity(places=Places.only(tmp_path)))
    limited = Limited(transport, monkeypatch)

    def make() -> Any:
        if kind in ("router", "publisher"):
            return getattr(transport, kind)(lambda *parts: None)
        more = {"dealer": {"on_state": lambda state: None}}.get(kind, {})
        callbacks = [] if kind == "blocking_dealer" else [lambda frame: None]
        return getattr(transport, kind)("tcp://127.0.0.1:1", *callbacks, **more)

    async def main() -> None:
        for left in range(needed):
            limited.left = left - limited.open
            if limited.left < 0:
                continue
            with pytest.raises(TransportError, match="No further socket can be opened"):
                make()
            assert limited.open == (kept if left >= kept else 0)
        limited.left = needed - limited.open
        socket = make()
        assert limited.open == needed
        socket.close()

    try:
        asyncio.run(main())
    finally:
        transport.close()


def test_first_socket_where_few_descriptors_are_free(processes: Processes, tmp_path: Path) -> None:
    """It is refused, with the limit to raise, and never ends the process, as libzmq would."""
    full = processes.python("-c", FULL, cwd=tmp_path)
    assert full.wait() == 0, full.report()
    outcomes = full.stdout.split()
    assert (outcomes[0], outcomes[-1], len(outcomes)) == ("refused", "made", 12)
