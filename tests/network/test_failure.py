"""Peers that end, are stopped or send invalid messages, and the effect on other peers."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from helpers import DOORS, MS, Door, Process, Stopwatch, scaled, wait_until
from lightbus import Api, BusPath, Event, LightbusException, PeerLost
from lightbus.adapters.zmq.bundles import frames_of
from lightbus.membership import lookup
from lightbus.wire import codec, envelope
from lightbus.wire.envelope import AnyMessage, Cancel, Error, Hello, Kind, Peers, Request, Welcome

if TYPE_CHECKING:
    from network.conftest import Network

AT_ONCE = 500 * MS
IN_FLIGHT = 12
"""Calls at a time: enough for both of two workers to have several, mostly."""


class Holding:
    """Running calls in threads, sync or async; each of `peers` has one."""

    def __init__(
        self, threads: ThreadPoolExecutor, door: Door, path: BusPath, *, peers: Sequence[str] = (), **kwargs: Any
    ) -> None:
        self.watch = Stopwatch()
        self.failures: list[tuple[float, float]] = []
        """For each that failed, what the watch showed: the seconds elapsed, and those that count."""
        options = [{"peer": peer} for peer in peers] + [{}] * (IN_FLIGHT - len(peers))
        self._calls = [threads.submit(self._call, door, path, {**kwargs, "bus_options": each}) for each in options]

    def _call(self, door: Door, path: BusPath, kwargs: dict[str, Any]) -> Any:
        kwargs["bus_options"] = {"timeout": 40, **kwargs["bus_options"]}
        try:
            return door.call(path, **kwargs)
        except LightbusException as error:
            self.failures.append((self.watch.elapsed, self.watch.seconds))
            return error

    def results(self) -> list[Any]:
        """Return the outcome of each."""
        return [call.result() for call in self._calls]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Return threads to call from; they are ended after the test."""
    with ThreadPoolExecutor(2 * IN_FLIGHT) as executor:
        yield executor


@pytest.fixture
def done(threads: ThreadPoolExecutor, tmp_path: Path) -> Iterator[Path]:
    """Return the file that ends waiting handlers; the end of the test makes it, too."""
    file = tmp_path / "done"
    yield file
    file.touch()


def running(bus: BusPath, *workers: Process) -> None:
    """Wait until the bus knows these workers."""
    pids = {worker.pid for worker in workers}
    wait_until(lambda: pids <= {bus.work.who() for _ in range(10)}, what="all workers are used")


@pytest.mark.usefixtures("patient_workers")
@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_kill_of_one_of_two_workers(
    network: Network, threads: ThreadPoolExecutor, done: Path, mode: str, door: Door
) -> None:
    """Calls in the killed worker fail at once with PeerLost, all others are answered; after a restart it is used."""
    network.use(mode)
    killed, other = network.start_all(mode, "work", "work")
    bus = network.bus()
    running(bus, killed, other)
    # Threads with a loop each choose by themselves: one time in some hundreds all would choose the same.
    peers = [peer.instance for peer in bus.client.engine.snapshot.by_api["work"]]
    holding = Holding(threads, door, bus.work.hold_until, peers=peers, file=str(done))
    network.wait_for_calls(bus, IN_FLIGHT)
    holding.watch = Stopwatch()
    killed.kill()
    wait_until(lambda: holding.failures)  # a call made before it is noticed may be lost, too
    assert {door.call(bus.work.who) for _ in range(20)} == {other.pid}
    done.touch()
    results = holding.results()
    lost = [result for result in results if isinstance(result, LightbusException)]
    assert {type(error) for error in lost} == {PeerLost}
    assert {result for result in results if result not in lost} == {other.pid}
    last = max(seconds for _, seconds in holding.failures)
    print(f"PeerLost after {last:.3f} s")
    assert last < AT_ONCE
    restarted = network.start()
    watch = Stopwatch()
    running(bus, restarted, other)
    print(f"used again after {watch.seconds:.3f} s")
    assert watch.seconds < 2


@pytest.mark.usefixtures("patient_workers")
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_call_without_another_worker(network: Network, threads: ThreadPoolExecutor, door: Door) -> None:
    """The only worker is killed: its calls fail at once; the next call waits a moment for its restart, and finds it."""
    worker = network.start()
    bus = network.bus()
    running(bus, worker)
    holding = Holding(threads, door, bus.work.hold, seconds=20)
    network.wait_for_calls(bus, IN_FLIGHT)
    worker.kill()
    assert {type(result) for result in holding.results()} == {PeerLost}
    restarted = network.start(ready=False)
    bus.client.wait_for_apis("work", timeout=60)
    assert door.call(bus.work.who) == restarted.pid


class WorkApi(Api):
    """The API of a caller that fires the events of `work`."""

    happened = Event(["what"])

    class Meta:
        name = "work"

    def who(self) -> int:
        raise NotImplementedError


def test_a_caller_that_publishes_waits_for_a_worker(
    network: Network, monkeypatch: pytest.MonkeyPatch, door: Door
) -> None:
    """A process that published events itself while its worker was away still waits for the worker with its calls."""
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(discovery={"wait": 60}))
    monkeypatch.setattr(lookup, "RETURN_TIME", 60.0)
    first = network.start()
    bus = network.bus()
    bus.client.register_api(WorkApi())
    assert door.call(bus.work.who) == first.pid
    first.kill()
    wait_until(lambda: "work" not in bus.client.engine.snapshot.by_api)
    door.fire(bus.work.happened, what="fire", bus_options={"timeout": 0.1})
    wait_until(lambda: "work" in bus.client.engine.snapshot.by_api)
    second = network.start(ready=False)
    assert door.call(bus.work.who, bus_options={"timeout": 60}) == second.pid


@pytest.mark.usefixtures("patient_workers")
def test_calls_flow_while_a_worker_is_killed(network: Network) -> None:
    """During a stream of short calls, sync and async, a kill fails no more calls than that worker had."""
    killed, other = network.start_all("host", "work", "work")
    bus = network.bus()
    running(bus, killed, other)
    errors: list[LightbusException] = []
    done = [0]
    stop = threading.Event()

    def stream() -> None:
        while not stop.is_set():
            try:
                bus.work.who()
                done[0] += 1
            except LightbusException as error:
                errors.append(error)

    async def stream_async() -> None:
        while not stop.is_set():
            try:
                await bus.work.who.call_async()
                done[0] += 1
            except LightbusException as error:
                errors.append(error)

    streams = [threading.Thread(target=stream) for _ in range(3)]
    streams.append(threading.Thread(target=lambda: asyncio.run(stream_async())))
    for thread in streams:
        thread.start()
    wait_until(lambda: done[0] > 200)
    killed.kill()
    after = done[0]
    wait_until(lambda: done[0] > after + 500)
    stop.set()
    for thread in streams:
        thread.join()
    assert {type(error) for error in errors} <= {PeerLost}
    assert len(errors) <= len(streams)


@pytest.fixture
def quick_heartbeats(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use heartbeats that detect silence after one second."""
    beats = {"heartbeat_interval": 0.3, "heartbeat_timeout": 1.0}
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(network=beats))


@pytest.mark.usefixtures("quick_heartbeats")
@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
def test_worker_that_was_stopped(network: Network, tmp_path: Path, mode: str) -> None:
    """A stopped worker is detected by its silence, and calls move on; later it executes no old call, and is used."""
    network.use(mode)
    record = tmp_path / "record"
    stopped, other = (network.start(RECORD=str(record)) for _ in range(2))
    bus = network.bus()
    running(bus, stopped, other)
    stopped.signal(signal.SIGSTOP)
    watch = Stopwatch()
    answered, lost = _tokens_until_moved(bus, "sync"), _tokens_until_moved(bus, "async")
    assert watch.seconds < 5
    assert {bus.work.who() for _ in range(20)} == {other.pid}
    stopped.signal(signal.SIGCONT)
    running(bus, stopped, other)
    noted = record.read_text().split()
    assert sorted(noted) == sorted(answered[0] + lost[0])
    assert set(noted).isdisjoint(answered[1] + lost[1])
    assert len(answered[1] + lost[1]) > 0
    stopped.wait_for_line("was blocked")


def _tokens_until_moved(bus: BusPath, door: str) -> tuple[list[str], list[str]]:
    """Make calls until twenty in a row were answered; return the tokens of answered and of lost calls."""
    answered: list[str] = []
    lost: list[str] = []
    in_a_row = 0
    while in_a_row < 20:
        token = f"{door}-{len(answered) + len(lost)}"
        try:
            DOORS[door].call(bus.work.take, token=token, bus_options={"timeout": 10})
        except PeerLost:
            lost.append(token)
            in_a_row = 0
        else:
            answered.append(token)
            in_a_row += 1
    return answered, lost


@pytest.mark.usefixtures("patient_workers")
def test_silence_is_detected_by_default(network: Network, threads: ThreadPoolExecutor, done: Path) -> None:
    """By default a stopped worker is given up after a little more than three seconds."""
    stopped = network.start()
    bus = network.bus()
    running(bus, stopped)
    holding = Holding(threads, DOORS["sync"], bus.work.hold_until, file=str(done))
    network.wait_for_calls(bus, IN_FLIGHT)
    stopped.signal(signal.SIGSTOP)
    holding.watch = Stopwatch()
    assert {type(result) for result in holding.results()} == {PeerLost}
    assert min(elapsed for elapsed, _ in holding.failures) > 1.5
    assert max(seconds for _, seconds in holding.failures) < 5
    stopped.signal(signal.SIGCONT)


# Strangers


@contextmanager
def stranger(kind: int, port: int) -> Iterator[zmq.Socket[bytes]]:
    """Connect a raw socket to one of a worker's ports."""
    context = zmq.Context()
    made: zmq.Socket[bytes] = context.socket(kind)
    made.set(zmq.LINGER, 500)
    made.set(zmq.RCVTIMEO, 2000)
    made.set(zmq.SNDTIMEO, 2000)
    made.connect(f"tcp://127.0.0.1:{port}")
    try:
        yield made
    finally:
        context.destroy(linger=500)


def ports_of(bus: BusPath, worker: Process) -> tuple[int, int]:
    """Return a worker's ports for calls and for events."""
    running(bus, worker)
    [peer] = bus.client.engine.snapshot.by_api["work"]
    return peer.announcement.rpc_port, peer.announcement.event_port


def nonsense(chaos: random.Random) -> bytes:
    """Return bytes that are no message, or one with invalid fields."""
    if chaos.random() < 0.2:
        return chaos.randbytes(chaos.choice([0, 1, 9, 10, 11, 100]))
    version = chaos.choice([1, 1, 1, 1, 0, 2, 255])
    head = struct.pack(">BBQ", chaos.choice([*Kind, 0, 99]), version, chaos.choice([0, 1, 2**64 - 1]))
    return head + chaos.choice([codec.encode(_fields(chaos)), chaos.randbytes(20), b""])


def _fields(chaos: random.Random) -> list[Any]:
    values: list[Any] = ["", "work", "who", "x" * 1000, "\0", 0, -1, 2**63, 1.5, float("nan"), float("inf"), True, None]
    values += [b"", b"\xff" * 100, [], {}, [[]], ["a", 1], {"a": {"b": []}}, {"v": 1, "bus": "x", "id": "0" * 16}]
    return [chaos.choice(values) for _ in range(chaos.randrange(12))]


def plausible(chaos: random.Random, bus: str, instance: str) -> bytes:
    """Return a well-formed message with contents that no regular peer sends."""
    odd = chaos.choice(["", "\0", "x" * 300, "../..", "work", "'; drop table"])
    left = chaos.choice([5.0, 0.0, -1.0, float("nan"), float("inf"), 1e308, -(10**6)])
    chain: list[Any] = [[], {}, odd]
    claim: Any = chaos.choice([None, {}, [], {"v": 1, "bus": bus, "id": "f" * 16, "svc": odd, "addr": [odd]}])
    messages: list[AnyMessage] = [
        Hello(chaos.choice([bus, odd]), chaos.choice(["", instance, odd]), odd, odd, odd, odd, claim),
        Request(chaos.choice([instance, odd]), odd, odd, left, odd, chain, {odd: odd}, -1, {odd: odd}),
        Request(instance, "work", "who", left, odd, [odd] * 40, None, 2**40, {}),
        Request(instance, "work", "__init__", 5.0, odd, [], None, 0, {}),
        Cancel(),
    ]
    return envelope.encode(chaos.choice(messages), chaos.randrange(2**64))


@contextmanager
def honest_calls(bus: BusPath) -> Iterator[None]:
    """Make calls in the meantime; each must be answered, in good time."""
    stop = threading.Event()

    def call() -> int:
        made = 0
        while not stop.is_set() or made == 0:
            assert bus.work.who() > 0
            made += 1
        return made

    with ThreadPoolExecutor(1) as executor:
        calls: Future[int] = executor.submit(call)
        try:
            yield
        finally:
            stop.set()
        assert calls.result() > 0


def test_invalid_frames_at_the_router_do_no_harm(network: Network, chaos: random.Random) -> None:
    """Random frames, several parts, odd but well-formed messages: a worker continues, and so do its callers."""
    network.use("insecure")
    worker = network.start()
    bus = network.bus()
    port, _ = ports_of(bus, worker)
    [peer] = bus.client.engine.snapshot.by_api["work"]
    with honest_calls(bus), stranger(zmq.DEALER, port) as dealer:
        for _ in range(scaled(20_000)):
            if chaos.random() < 0.1:
                dealer.send_multipart([nonsense(chaos) for _ in range(chaos.randrange(2, 5))])
            elif chaos.random() < 0.5:
                dealer.send(nonsense(chaos))
            else:
                dealer.send(plausible(chaos, bus.client.config.bus_name, peer.instance))
        assert bus.work.who() == worker.pid
    worker.wait_for_line(
        r"lightbus.binding: 1000 messages could not be read so far and were ignored, the last one of the connection"
    )
    assert "Traceback" not in worker.output
    assert "Exception in callback" not in worker.output


def test_a_foreign_client_is_answered(network: Network) -> None:
    """A client with another version, or for another bus or instance, gets an error; nothing else happens."""
    network.use("insecure")
    worker = network.start()
    bus = network.bus()
    port, _ = ports_of(bus, worker)
    name = bus.client.config.bus_name
    with stranger(zmq.DEALER, port) as dealer:

        def ask(frame: bytes) -> Any:
            dealer.send(frame)
            answers: list[Any] = []
            while not answers:  # what else is said at this moment comes along with it
                said = [envelope.decode(each)[1] for each in frames_of(dealer.recv())]
                answers = [each for each in said if not isinstance(each, Peers)]
            [answer] = answers
            return answer

        hello = Hello(name, "", "0" * 16, "s", "p", "", None)
        assert isinstance(ask(envelope.encode(hello)), Welcome)
        versioned = bytearray(envelope.encode(hello))
        versioned[1] = 9
        for frame, reason in (
            (bytes(versioned), "speaks protocol version 9, this process version 1"),
            (envelope.encode(hello._replace(bus="other")), f"this is the bus '{name}', not 'other'"),
            (envelope.encode(hello._replace(target="1" * 16)), f"not {'1' * 16}"),
            (envelope.encode(Welcome({}, "", 0.0, False)), "which accepts no Welcome message"),
            (
                envelope.encode(Request("1" * 16, "work", "who", 1.0, "0" * 16, [], None, 0, {})),
                "meant for the instance",
            ),
        ):
            answer = ask(frame)
            assert isinstance(answer, Error)
            assert reason in answer.message
            assert not answer.started


@pytest.mark.parametrize("which", ["calls", "events"])
def test_broken_connections_do_no_harm(network: Network, chaos: random.Random, which: str) -> None:
    """Connections that send nothing, another protocol, or too much: a worker continues, and so do its callers."""
    network.use("insecure")
    limit = 64 * 1024
    worker = network.start(LIGHTBUS_CONFIG=network.config(network={"max_message_size": limit}))
    bus = network.bus()
    port = ports_of(bus, worker)[which == "events"]
    texts = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
        chaos.randbytes(5000),
    ]
    with honest_calls(bus), ExitStack() as stack:
        for number in range(scaled(500, least=20)):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(texts[number % len(texts)])
            if number % 3 == 0:
                connection.close()
        huge = stack.enter_context(stranger(zmq.DEALER if which == "calls" else zmq.SUB, port))
        if which == "calls":
            huge.send(b"x" * (limit + 1))
        else:
            huge.subscribe(b"x" * (limit + 1))
        assert bus.work.who() == worker.pid
    assert "Traceback" not in worker.output


def test_odd_subscriptions_do_no_harm(network: Network, chaos: random.Random) -> None:
    """Subscriptions to nothing, everything and invalid topics: a worker continues, and its events reach listeners."""
    network.use("insecure")
    worker = network.start()
    bus = network.bus()
    _, port = ports_of(bus, worker)
    topics = [b"", b"\xff", b"work\0", b"\0\0\0", *(chaos.randbytes(chaos.randrange(200)) for _ in range(scaled(5000)))]
    with honest_calls(bus), stranger(zmq.SUB, port) as subscriber, stranger(zmq.XSUB, port) as raw:
        for topic in topics:
            subscriber.subscribe(topic)
            raw.send(chaos.choice([b"\x02", b"", b"\x00", b"\x01"]) + topic)
        bus.work.happened.fire(what="x")
        while not subscriber.recv().startswith(b"work\0happened\0"):
            continue
    assert "Traceback" not in worker.output
