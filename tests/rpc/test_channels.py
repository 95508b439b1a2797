"""The channels of a process: each is told when peers are lost, and is closed in its own loop or thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from helpers import MS, wait_until_async
from lightbus.core.registry import Peer, PeerLeft, PeerState, Source
from lightbus.rpc import channels as module
from lightbus.rpc.channels import Channels
from lightbus.wire.announcement import Announcement

INSTANCE = "00000000000000aa"
PEER = Peer(
    announcement=Announcement(bus="b", instance=INSTANCE, service="auth", process="p", host="h"),
    state=PeerState.UP,
    source=Source.SEED,
    changed_at=0.0,
)
LEFT = PeerLeft(PEER, "went away")
LOST = ("lost", INSTANCE, "went away")
CONTEXT: Any = None
"""Callers hand it on, and the ones below do without."""


class FakeCaller:
    """The channel of a loop, which records its calls and their threads."""

    def __init__(self, context: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.told: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.in_flight = 0

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self._note(("lost", peer.instance, reason))

    def awaits(self, instance: str) -> bool:
        return instance == INSTANCE and self.in_flight > 0

    def close(self) -> None:
        self._note("close")

    def abandon(self) -> None:
        self._note("abandon")

    def _note(self, what: Any) -> None:
        self.told.append(what)
        self.threads.append(threading.current_thread())


class FakeDoor:
    """The channel of plain threads, which records its calls."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.callbacks: list[Callable[[], None]] = []
        self.closed: Future[None] = Future()
        self.closed.set_result(None)
        self.in_flight = 0

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.told.append(("lost", peer.instance, reason))

    def when_sent(self, instance: str, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def awaits(self, instance: str) -> bool:
        return instance == INSTANCE and self.in_flight > 0

    def close(self) -> Future[None]:
        self.told.append("close")
        return self.closed


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> Channels:
    """Return channels whose callers are fakes."""
    monkeypatch.setattr(module, "Caller", FakeCaller)
    return Channels()


async def made(channels: Channels) -> Any:
    """Return the channel of the running loop."""
    return channels.caller(CONTEXT)


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Run a loop in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def caller_on(loop: asyncio.AbstractEventLoop, channels: Channels) -> Any:
    """Return the channel of a loop that runs in another thread."""
    return asyncio.run_coroutine_threadsafe(made(channels), loop).result(60)


# --- one for each loop ------------------------------------------------------------------------------


def test_each_loop_has_its_own_channel(channels: Channels) -> None:
    """A channel is made at its first use; another loop has another one."""

    async def main() -> None:
        mine = await made(channels)
        assert await made(channels) is mine
        with loop_in_a_thread() as loop:
            assert caller_on(loop, channels) is not mine

    asyncio.run(main())


def test_channels_of_closed_loops_are_dropped(channels: Channels) -> None:
    """A program that runs one loop after another keeps no sockets of the former loops."""
    former = asyncio.run(made(channels))
    latter = asyncio.run(made(channels))
    assert (former.told, latter.told) == (["abandon"], [])


# --- a peer left ------------------------------------------------------------------------------------


def test_all_channels_are_told_of_a_lost_peer(channels: Channels) -> None:
    """The running loop's channel at once, those of other loops in their threads, and that of plain threads."""
    channel = FakeDoor()
    channels.add(channel)

    async def main() -> None:
        mine = await made(channels)
        with loop_in_a_thread() as loop:
            other = caller_on(loop, channels)
            channels.peer_left(LEFT)
            assert (mine.told, channel.told) == ([LOST], [LOST])
            await wait_until_async(lambda: other.told == [LOST])
            assert other.threads != mine.threads == [threading.current_thread()]

    asyncio.run(main())


def test_a_loss_is_reported_despite_a_closed_loop(channels: Channels) -> None:
    """A loop that was closed in the meantime does not prevent the report to the others."""
    channel = FakeDoor()
    former = asyncio.run(made(channels))
    channels.add(channel)

    async def main() -> None:
        channels.peer_left(LEFT)
        await channels.wait_until_no_new_requests(INSTANCE)

    channel.when_sent = lambda instance, callback: callback()  # type: ignore[method-assign]
    asyncio.run(main())
    assert (former.told, channel.told) == ([], [LOST])


# --- a peer is about to leave -----------------------------------------------------------------------


def test_waiting_until_all_channels_have_seen_a_change(channels: Channels) -> None:
    """It ends when each loop has run once and plain threads have sent all requests, and not before."""
    channel = FakeDoor()
    channels.add(channel)

    async def main() -> None:
        await made(channels)
        with loop_in_a_thread() as loop:
            caller_on(loop, channels)
            busy = threading.Event()
            loop.call_soon_threadsafe(busy.wait, 10)
            seen = asyncio.ensure_future(channels.wait_until_no_new_requests(INSTANCE))
            await wait_until_async(lambda: channel.callbacks)
            threading.Thread(target=channel.callbacks[0]).start()
            for _ in range(5):
                await asyncio.sleep(1 * MS)
            assert not seen.done()
            busy.set()
            await asyncio.wait_for(seen, module.SEEN_TIMEOUT * 0.9)

    asyncio.run(main())


def test_waiting_without_channels(channels: Channels) -> None:
    """Without channels there is nothing to wait for."""
    asyncio.run(asyncio.wait_for(channels.wait_until_no_new_requests(INSTANCE), module.SEEN_TIMEOUT * 0.9))


def test_waiting_for_channels_is_bounded(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that never reports does not block for ever, and may report after the wait has ended."""
    monkeypatch.setattr(module, "SEEN_TIMEOUT", 10 * MS)
    channel = FakeDoor()
    channels.add(channel)
    asyncio.run(asyncio.wait_for(channels.wait_until_no_new_requests(INSTANCE), 60))
    channel.callbacks[0]()


@pytest.mark.parametrize("who", ["loop", "threads"])
def test_waiting_until_all_requests_are_answered(channels: Channels, who: str) -> None:
    """All callers' requests to this one peer are waited for."""
    channel = FakeDoor()
    channels.add(channel)

    async def main() -> None:
        waiting = await made(channels) if who == "loop" else channel
        waiting.in_flight = 1
        await asyncio.wait_for(channels.wait_until_answered("another"), module.DONE_TIMEOUT / 2)
        done = asyncio.ensure_future(channels.wait_until_answered(INSTANCE))
        await asyncio.sleep(0)
        assert not done.done()
        waiting.in_flight = 0
        await asyncio.wait_for(done, module.DONE_TIMEOUT * 0.9)

    asyncio.run(main())


def test_waiting_for_answers_is_bounded(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing reply is only waited for a short while."""
    monkeypatch.setattr(module, "DONE_TIMEOUT", 10 * MS)
    channel = FakeDoor()
    channel.in_flight = 1
    channels.add(channel)
    asyncio.run(asyncio.wait_for(channels.wait_until_answered(INSTANCE), 60))


# --- the end ----------------------------------------------------------------------------------------


def test_closing_the_channel_of_the_running_loop(channels: Channels) -> None:
    """It is closed once, and the next use makes another one; a loop without a channel closes none."""

    async def main() -> None:
        channels.close_own()
        mine = await made(channels)
        channels.close_own()
        channels.close_own()
        assert mine.told == ["close"]
        assert await made(channels) is not mine

    asyncio.run(main())


def test_each_channel_is_closed_where_its_sockets_are_used(channels: Channels) -> None:
    """Each channel is closed in its loop, or, if that does not run any more, by the closing thread."""
    channel = FakeDoor()
    channels.add(channel)
    resting = asyncio.new_event_loop()
    idle = resting.run_until_complete(made(channels))
    with loop_in_a_thread() as loop:
        busy = caller_on(loop, channels)
        assert channels.close() == []
        assert busy.told == idle.told == channel.told == ["close"]
        assert busy.threads != idle.threads == [threading.current_thread()]
        assert caller_on(loop, channels) is not busy
    resting.close()


def test_closing_the_channel_of_a_closed_loop(channels: Channels) -> None:
    """Its sockets are released without the loop."""
    former = asyncio.run(made(channels))
    assert channels.close() == []
    assert former.told == ["abandon"]


def test_closing_is_bounded(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that a handler blocks is not waited for: it closes its channel later, and the result shows that."""
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 10 * MS)
    busy = threading.Event()
    with loop_in_a_thread() as loop:
        caller = caller_on(loop, channels)
        loop.call_soon_threadsafe(busy.wait, 10)
        [closed] = channels.close()
        assert caller.told == []
        busy.set()
        closed.result(60)
        assert caller.told == ["close"]


def test_closing_while_a_thread_uses_its_socket(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is not waited for either, and the result shows that."""
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 10 * MS)
    channel = FakeDoor()
    channel.closed = Future()
    channels.add(channel)
    assert channels.close() == [channel.closed]


def test_closing_at_exit(channels: Channels) -> None:
    """Loops that still run, which can only be those of daemon threads, are left alone, and the result shows that."""
    former, channel = asyncio.run(made(channels)), FakeDoor()
    channels.add(channel)
    with loop_in_a_thread() as loop:
        running = caller_on(loop, channels)
        assert [future.done() for future in channels.close(at_exit=True)] == [False]
        assert (running.told, former.told, channel.told) == ([], ["abandon"], ["close"])
