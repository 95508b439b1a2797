"""Several small frames in one message of ZeroMQ."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from helpers import wait_until_async
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq import connecting_sockets
from lightbus.adapters.zmq.blocking_dealer import BlockingDealer
from lightbus.adapters.zmq.bundles import MOST, MOST_BYTES, Bundle, frames_of
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.wire.sizes import LEAST

FRAMES = st.lists(st.binary(max_size=200).map(lambda rest: b"\3" + rest), min_size=1, max_size=40)


@given(FRAMES)
def test_bundled_frames_are_restored(frames: list[bytes]) -> None:
    """All of them, in order, as many per bundle as fit; and no message is larger than every peer accepts."""
    messages, bundle = [], Bundle()
    for frame in frames:
        if not bundle.takes(frame):
            messages.append(bundle.message())
            bundle = Bundle()
            assert bundle.takes(frame)
    messages.append(bundle.message())
    assert [frame for message in messages for frame in frames_of(message)] == frames
    assert all(len(message) <= LEAST for message in messages)


def test_single_frame_is_not_bundled() -> None:
    """It is sent unchanged, and need not be unpacked."""
    bundle = Bundle()
    assert bundle.takes(b"\3 a frame")
    assert bundle.message() == b"\3 a frame"


def test_bundle_is_bounded() -> None:
    """In frames and in bytes."""
    many, large = Bundle(), Bundle()
    assert [many.takes(b"x") for _ in range(MOST + 1)] == [True] * MOST + [False]
    assert large.takes(b"x" * MOST_BYTES)
    assert not large.takes(b"x")
    assert not Bundle().takes(b"x" * (MOST_BYTES + 1))


@given(st.binary(max_size=100))
def test_any_bytes_are_frames(data: bytes) -> None:
    """Any input gives frames of no more bytes; a message that is not a bundle is one frame."""
    frames = frames_of(b"\0" + data)
    assert sum(map(len, frames)) <= len(data) + 1
    assert 1 <= len(frames) <= MOST
    assert frames_of(b"\3" + data) == [b"\3" + data]


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"\0\0", b"\0\1\0\1x", b"\0\2\0\1", b"\0\2\0\1\0\2xy", b"\0\2\0\1\0\1xyz", b"\0\xff" + b"\0" * 510],
)
def test_a_damaged_bundle_is_one_frame(message: bytes) -> None:
    """Too short, too long, too many frames or one: decoding refuses it like any other invalid frame."""
    assert frames_of(message) == [message]


def test_frames_of_one_turn_are_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second turn in a row with many frames sends bundles, in both directions; a damaged bundle does no harm."""

    async def main() -> None:
        transport = ZmqTransport(HostSecurity(places=Places.only(tmp_path)))
        heard: list[bytes] = []
        answers: list[bytes] = []
        router = transport.router(lambda routing_id, frame: (heard.append(frame), router.send(routing_id, frame)))  # type: ignore[arg-type, func-returns-value]
        router.bind(f"ipc://{tmp_path}/rpc")
        dealer = transport.dealer(f"ipc://{tmp_path}/rpc", answers.append)
        await wait_until_async(lambda: dealer.send(b"\3 first"))
        monkeypatch.setattr(connecting_sockets, "BURST", 60.0)  # all sends count as a burst, on a slow machine, too
        messages: list[bytes] = []
        send = dealer._send_part
        dealer._send_part = lambda message, flags: (messages.append(message), send(message, flags))[1]
        sent = [b"\3 %d" % number for number in range(3 * MOST)]
        for _ in range(2):
            messages.clear()
            for frame in sent:
                assert dealer.send(frame)
            await wait_until_async(lambda: len(answers) > len(heard) // 2)
        await wait_until_async(lambda: len(answers) == 1 + 2 * len(sent))
        assert heard == answers == [b"\3 first", *sent, *sent]
        assert [frame for message in messages for frame in frames_of(message)] == sent
        assert len(messages) == 3
        with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.connect(f"ipc://{tmp_path}/rpc")
            stranger.send(b"\0\2\0\1\0\2xy")
            await wait_until_async(lambda: heard[-1] == b"\0\2\0\1\0\2xy")
        dealer.close()
        router.close()
        transport.close()

    asyncio.run(main())


def test_blocking_socket_unpacks_bundles() -> None:
    """The answer to an abandoned call may arrive together with that to the next one."""
    bundle = Bundle()
    frames = [b"\4 late", b"\4 later", b"\4 now"]
    assert all(bundle.takes(frame) for frame in frames)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer = BlockingDealer(context.socket(zmq.DEALER), f"tcp://127.0.0.1:{port}")
        while not dealer.send(b"\3"):
            pass
        routing_id, _ = router.recv_multipart()
        router.send_multipart([routing_id, bundle.message()])
        assert [dealer.receive(5.0) for _ in frames] == frames
        dealer.close()
