"""The sync channel: the pool of sockets, and the result of a call when its peer, its bus or its time ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Process, Processes, Stopwatch, wait_until
from helpers.waiting import LEAST
from lightbus import (
    BusPath,
    CannotBlockHere,
    LightbusException,
    LightbusShutdownInProgress,
    LightbusTimeout,
    PeerLost,
    TransportError,
    blocking,
)
from lightbus.adapters.zmq.blocking_dealer import BlockingDealer
from lightbus.blocking import BlockingChannel, forbid_in_loop
from lightbus.core.registry import Peer
from lightbus.deadline import Deadline
from lightbus.rpc.outbound_call import OutboundCall
from lightbus.wire import envelope
from lightbus.wire.envelope import Error, Result

PROGRAMS = Path(__file__).parent / "network" / "programs"


@pytest.fixture
def worker(processes: Processes) -> Process:
    """Start a worker of the API `work`."""
    worker = processes.worker("work", cwd=PROGRAMS)
    worker.wait_for_line("Ready")
    return worker


@pytest.fixture
def bus(worker: Process) -> Iterator[BusPath]:
    """Return a caller's bus that has found the worker."""
    bus = lightbus.create(service_name="caller")
    bus.client.wait_for_apis("work")
    yield bus
    bus.client.close()


def door_of(bus: BusPath) -> BlockingChannel:
    return bus.client._engines.channel


def in_threads(count: int, function: Callable[[], Any]) -> list[Future[Any]]:
    """Run a function in this many threads, and return the futures."""
    threads = ThreadPoolExecutor(count)
    futures = [threads.submit(function) for _ in range(count)]
    threads.shutdown(wait=False)
    return futures


def test_forbid_in_loop() -> None:
    """In a thread without a running loop blocking is fine; in a loop it is refused, with what to await."""
    forbid_in_loop("bus.auth.get()", "bus.auth.get.call_async()")

    async def main() -> None:
        forbid_in_loop("bus.auth.get()", "bus.auth.get.call_async()")

    with pytest.raises(
        CannotBlockHere, match=r"^bus\.auth\.get\(\) would block.* Write: await bus\.auth\.get\.call_as"
    ):
        asyncio.run(main())


def test_sockets_are_used_again(bus: BusPath) -> None:
    """Calls one after another share a socket, also from several threads; at the same time each has its own."""
    for number in range(20):
        assert bus.work.echo(value=number) == number
        assert in_threads(1, lambda: bus.work.echo(value=1))[0].result() == 1
    assert door_of(bus)._sockets == 1
    for future in in_threads(5, lambda: bus.work.hold(seconds=0.2)):
        assert future.result() > 0
    assert door_of(bus)._sockets == 5


def test_number_of_sockets_is_bounded(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all sockets are in use, a further call waits for one, and names the reason when its time is up."""
    monkeypatch.setattr(blocking, "MAX_SOCKETS", 2)
    held = in_threads(2, lambda: bus.work.hold(seconds=0.6))
    wait_until(lambda: door_of(bus)._sockets == 2)
    with pytest.raises(
        LightbusTimeout, match=r"^work\.echo was not sent: 2 blocking calls of this process are in progress"
    ):
        bus.work.echo(value=1, bus_options={"timeout": 0.1})
    assert bus.work.echo(value=2) == 2
    assert all(future.result() for future in held)
    assert door_of(bus)._sockets == 2


def test_idle_sockets_make_room_for_other_peers(
    bus: BusPath, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle sockets to one peer are closed when there are no more left for another one."""
    monkeypatch.setattr(blocking, "MAX_SOCKETS", 2)
    for future in in_threads(2, lambda: bus.work.hold(seconds=0.1)):
        future.result()
    other = processes.worker("work", cwd=PROGRAMS, env={"API": "other"})
    other.wait_for_line("Ready")
    assert bus.other.who() == other.pid
    assert door_of(bus)._sockets == 2


def test_calls_share_the_existing_sockets(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no further files can be opened, calls wait for an existing socket, and say so when their time is up."""
    assert bus.work.echo(value=1) == 1
    monkeypatch.setattr(blocking, "descriptors_left", lambda: 3)
    patient = {"timeout": 60}
    calls = in_threads(5, lambda: bus.work.hold(seconds=0.01, bus_options=patient))
    assert all(future.result() for future in calls)
    assert door_of(bus)._sockets == 1
    [pool] = door_of(bus)._pools.values()
    taken = pool.idle.pop()
    with pytest.raises(LightbusTimeout, match=r"not sent: 1 blocking calls .* may have no more open files"):
        bus.work.echo(value=1, bus_options={"timeout": 0.1})
    monkeypatch.setattr(blocking, "descriptors_left", lambda: 4)
    assert bus.work.echo(value=2, bus_options=patient) == 2
    assert door_of(bus)._sockets == 2
    pool.idle.append(taken)


def test_call_waits_if_no_new_socket_can_be_made(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """If making a further socket fails, its call waits for an existing one."""

    def fail(endpoint: str, **options: object) -> None:
        raise TransportError("Too many open files")

    assert bus.work.echo(value=1) == 1
    [pool] = door_of(bus)._pools.values()
    taken = pool.idle.pop()
    monkeypatch.setattr(bus.client.engine.transport, "blocking_dealer", fail)
    [call] = in_threads(1, lambda: bus.work.echo(value=2, bus_options={"timeout": 60}))
    wait_until(lambda: door_of(bus)._waiting_for_room or pool.unsent)
    pool.idle.append(taken)
    assert call.result(60) == 2


def test_call_uses_an_idle_socket_if_a_new_one_is_refused(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a peer accepts no further connection, a call uses an existing one as soon as that is idle."""
    transport = bus.client.engine.transport
    connect = transport.blocking_dealer
    [held] = in_threads(1, lambda: bus.work.hold(seconds=0.3, bus_options={"timeout": 60}))
    wait_until(bus.work.log)
    monkeypatch.setattr(
        transport, "blocking_dealer", lambda endpoint, **options: connect(f"{endpoint}-nobody", **options)
    )
    threads = in_threads(3, lambda: bus.work.echo(value=1, bus_options={"timeout": 60}))
    assert [future.result(60) for future in threads] == [1, 1, 1]
    assert held.result()
    wait_until(lambda: door_of(bus)._sockets <= 2, what="those that did not stand are closed")


def test_late_replies_are_discarded(bus: BusPath) -> None:
    """The reply to a call that was given up is not used as the reply to the next call on its socket."""
    with pytest.raises(LightbusTimeout):
        bus.work.hold_def(seconds=0.3, bus_options={"timeout": 0.1})
    wait_until(lambda: bus.work.log() == ["started", "finished"])
    for number in range(5):
        assert bus.work.echo(value=number) == number
    assert door_of(bus)._sockets == 1


def test_endless_late_replies_do_not_delay_a_timeout(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that keeps sending unrequested replies delays no call past its deadline."""
    late = envelope.encode(Result(None), 2**40)
    monkeypatch.setattr(BlockingDealer, "receive", lambda self, seconds: late)
    with pytest.raises(LightbusTimeout, match="did not answer"):
        bus.work.echo(value=1, bus_options={"timeout": 0.2})
    monkeypatch.undo()
    assert bus.work.echo(value=1) == 1


def test_peer_that_is_killed(bus: BusPath, worker: Process) -> None:
    """A call that a killed worker was executing fails at once; the error says that it may have been executed."""
    [held] = in_threads(1, lambda: bus.work.hold(seconds=20, bus_options={"timeout": 20}))
    wait_until(lambda: bus.work.log() == ["started"])
    watch = Stopwatch()
    worker.kill()
    with pytest.raises(
        PeerLost, match=r"^work .* while work\.hold was in progress\. It may or may not have been executed"
    ):
        held.result(60)
    assert watch.seconds < 1
    wait_until(lambda: door_of(bus)._sockets == 0, what="the sockets to it are closed")


def test_idempotent_call_moves_on(bus: BusPath, worker: Process, processes: Processes) -> None:
    """A call that was declared idempotent is repeated at another peer when its own is killed."""
    [held] = in_threads(1, lambda: bus.work.hold(seconds=5, bus_options={"idempotent": True, "timeout": 40}))
    wait_until(lambda: bus.work.log() == ["started"])
    other = processes.worker("work", cwd=PROGRAMS)
    other.wait_for_line("Ready")
    wait_until(lambda: len(bus.client.engine.snapshot.by_api["work"]) == 2)
    worker.kill()
    assert held.result(60) == other.pid


def test_call_of_a_stopped_peer_times_out(bus: BusPath, worker: Process) -> None:
    """A worker stopped by SIGSTOP answers nothing; a call of it takes no longer than its timeout."""
    assert bus.work.echo(value=1) == 1
    worker.signal(signal.SIGSTOP)
    try:
        watch = Stopwatch()
        with pytest.raises(LightbusTimeout, match="did not answer"):
            bus.work.echo(value=1, bus_options={"timeout": 0.3})
        assert watch.seconds < 0.6
    finally:
        worker.signal(signal.SIGCONT)
    wait_until(lambda: _answers(bus), what="it answers again")


def test_closing_ends_waiting_calls(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that wait for a reply, or for a socket, raise when the bus is closed."""
    monkeypatch.setattr(blocking, "MAX_SOCKETS", 1)
    held = in_threads(3, lambda: bus.work.hold(seconds=LEAST))
    wait_until(lambda: door_of(bus)._sockets == 1)
    bus.client.close()
    for future in held:
        with pytest.raises(LightbusShutdownInProgress, match=r"work\.hold was (answered|sent)"):
            future.result(LEAST)


def test_closing_while_a_thread_does_not_run(bus: BusPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread's socket is closed by the thread itself, and the transport only after that: else libzmq aborts."""
    monkeypatch.setattr("lightbus.rpc.channels.CLOSE_TIMEOUT", 0.01)
    proceed, stands, closed = threading.Event(), threading.Event(), threading.Event()
    transport, receive = bus.client.engine.transport, BlockingDealer.receive

    def stand(self: BlockingDealer, seconds: float) -> bytes | None:
        stands.set()
        assert proceed.wait(60)
        return receive(self, seconds)

    def close(close_now: Callable[[], None] = transport.close) -> None:
        close_now()
        closed.set()

    monkeypatch.setattr(BlockingDealer, "receive", stand)
    monkeypatch.setattr(transport, "close", close)
    [held] = in_threads(1, lambda: bus.work.hold(seconds=30))
    assert stands.wait(60)
    bus.client.close()
    assert not closed.is_set()
    proceed.set()
    with pytest.raises(LightbusShutdownInProgress):
        held.result(60)
    assert closed.wait(60)


def test_calls_survive_a_move_of_the_engine(bus: BusPath) -> None:
    """Calls in progress are not affected when a worker is started and stopped in their process."""
    held = in_threads(2, lambda: bus.work.hold(seconds=1.0))
    wait_until(lambda: bus.work.log() == ["started"] * 2)

    async def main() -> None:
        await bus.client.start_worker()
        assert await bus.work.echo.call_async(value=1) == 1
        await bus.client.stop_worker()

    asyncio.run(main())
    assert bus.work.echo(value=2) == 2
    assert all(future.result() for future in held)


def test_when_sent_reports_that_nothing_is_unsent(bus: BusPath) -> None:
    """The callback is called, at once or later, when no call that chose a peer is unsent any more."""
    told: list[str] = []
    door = door_of(bus)
    door.when_sent("somebody", lambda: told.append("nothing was"))
    assert told == ["nothing was"]
    deadline = Deadline.in_seconds(5)
    calls = [OutboundCall(bus.client.engine, "work", "echo", deadline, {}) for _ in range(2)]
    peer, same = (door.pick(call) for call in calls)
    assert peer is not None
    assert peer is same
    door.when_sent(peer.instance, lambda: told.append("all is"))
    for call in calls:
        assert told == ["nothing was"]
        asyncio.run(_asked(door, peer, call))
    assert told == ["nothing was", "all is"]


async def _asked(door: BlockingChannel, peer: Peer, call: OutboundCall) -> None:
    assert isinstance(await door.ask(peer, call), Error)  # an argument is missing: it was sent


def test_interrupt_cancels_the_handler_and_leaves_the_socket_usable(bus: BusPath) -> None:
    """Control-C in a call reaches the program at once, cancels the handler, and leaves the socket usable."""
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        bus.work.hold(seconds=4)
    timer.join()
    wait_until(lambda: bus.work.log() == ["started", "cancelled"])
    assert bus.work.echo(value=1) == 1
    assert door_of(bus)._sockets == 1


@pytest.mark.parametrize("used", [True, False], ids=["used", "new"])
def test_a_call_interrupted_while_it_is_sent(bus: BusPath, monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    """Control-C that is noticed just after libzmq has sent the frame cancels the handler, as any other."""
    if used:
        assert bus.work.echo(value=1) == 1
    send = BlockingDealer.send
    frames: list[bytes] = []

    def interrupted(self: BlockingDealer, frame: bytes) -> bool:
        really_send = self._send

        def send_and_raise(frame: bytes) -> None:
            really_send(frame)
            if not frames:
                frames.append(frame)
                wait_until(lambda: _started(bus))
                raise KeyboardInterrupt

        if b"hold" in frame and not frames:
            self._send = send_and_raise
        return send(self, frame)

    monkeypatch.setattr(BlockingDealer, "send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.work.hold(seconds=4)
    monkeypatch.undo()
    wait_until(lambda: bus.work.log() == ["started", "cancelled"])


def _started(bus: BusPath) -> bool:
    with ThreadPoolExecutor(1) as other:  # this thread's connection is the one that is interrupted
        return bool(other.submit(bus.work.log).result() == ["started"])


def _answers(bus: BusPath) -> bool:
    try:
        return bool(bus.work.echo(value=True, bus_options={"timeout": 0.5}))
    except LightbusException:
        return False
