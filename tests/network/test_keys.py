"""Mode bus_key between processes: holders of the key get access, and others neither read nor cause anything."""

from __future__ import annotations

import os
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lightbus
from helpers import DOORS, Door, Process, Processes, Stopwatch, scaled, wait_until
from lightbus import BusPath, InvalidConfiguration, PeerRefused
from lightbus.adapters.mdns.discovery import ZeroconfDiscovery
from lightbus.config.keys import BusKey
from lightbus.core.peers import PeerState
from lightbus.wire.announcement import Announcement, new_instance_id

if TYPE_CHECKING:
    from network.conftest import Network

PROGRAMS = Path(__file__).parent / "programs"

OURS, OTHER = BusKey.generate(), BusKey.generate()
SECRET = "the-quick-brown-fox"

IN_TIME = 2.5
"""Seconds in which a refusal is said: `discovery.wait`, an attempt, and some for a busy machine."""


def refusal(door: Door, path: BusPath, **kwargs: Any) -> str:
    """Call, and return the error; it comes long before the call's timeout."""
    watch = Stopwatch()
    with pytest.raises(PeerRefused) as caught:
        door.call(path, **kwargs)
    assert watch.seconds < IN_TIME
    return str(caught.value)


def refused_peers(bus: BusPath) -> list[str]:
    """Return the instances that the registry has as refused."""
    peers = bus.client.engine.snapshot.peers.values()
    return [peer.instance for peer in peers if peer.state is PeerState.REFUSED]


# --- who has the key --------------------------------------------------------------------------------


def test_calls_and_events_with_a_key(network: Network, processes: Processes, door: Door) -> None:
    """Holders of the key find each other, call, sync and async, hand off events and listen; the bus is the key's."""
    network.use("bus_key", key=OURS.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LIGHTBUS_BUS")
        publisher = processes.worker("stream", cwd=PROGRAMS)
        publisher.wait_for_line(rf"bus '{OURS.fingerprint}'")
        listener = processes.worker("heard", cwd=PROGRAMS)
        listener.wait_for_line(r"Events of \S+ \S+ .*arrive")
        bus = network.bus()
        assert door.call(bus.stream.who) == publisher.pid
        for number in range(20):
            door.fire(bus.stream.ticked, number=number)
        wait_until(lambda: len(door.call(bus.heard.by, listener="with_message")) == 20)
    publisher.wait_for_line(rf"only for holders of the key {OURS.fingerprint}: at 127.0.0.1")
    publisher.ask_to_end()
    assert publisher.wait() == 0


def test_one_fixed_peer_is_enough(network: Network, door: Door) -> None:
    """With a key and without multicast, a fixed peer reports the others as it does without."""
    network.use("seed", key=OURS.text)
    _, other = network.start_all("seed", "work", "other")
    assert door.call(network.bus().other.who) == other.pid


def test_key_file_is_found_by_all(network: Network, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `lightbus keys init` workers and callers of this user are on the key's bus, without another setting."""
    monkeypatch.setenv("LIGHTBUS_INTERFACES", "127.0.0.1")
    monkeypatch.delenv("LIGHTBUS_BUS")
    assert processes.lightbus("keys", "init").wait() == 0
    worker = network.start()
    bus = network.bus()
    assert bus.work.who() == worker.pid
    assert bus.client.engine.transport.security.mode == "bus_key"
    assert bus.client.config.bus_name == bus.client.engine.transport.security.fingerprints[0]


def test_mode_without_a_key_is_refused(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LIGHTBUS_SECURITY=bus_key` without a key starts nothing, and the error says how to get one."""
    monkeypatch.setenv("LIGHTBUS_SECURITY", "bus_key")
    worker = network.start(ready=False)
    assert worker.wait() == 2
    worker.wait_for_line("Error: .*there is no key. Make one with `lightbus keys init`")
    with pytest.raises(InvalidConfiguration, match="lightbus keys init"):
        lightbus.create()


# --- who has not ------------------------------------------------------------------------------------


def test_another_key_has_no_access(network: Network, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another key on a bus of the same name a call is refused with a hint to compare the keys."""
    network.use("bus_key", key=OURS.text)
    worker = network.start()
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", OTHER.text)
    bus = network.bus()
    text = refusal(door, bus.work.who)
    assert f"it has the key {OURS.fingerprint}, and ours is {OTHER.fingerprint}" in text
    assert len(refused_peers(bus)) == 1
    with pytest.raises(PeerRefused):
        door.fire(bus.work.happened, what="x")
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", OURS.text)
    assert network.bus().work.who() == worker.pid


def test_another_key_is_another_bus(network: Network, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """If each key names its own bus, too, the caller learns that holders of another key have the API."""
    network.use("bus_key", key=OURS.text)
    monkeypatch.delenv("LIGHTBUS_BUS")
    worker = network.start()
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", OTHER.text)
    bus = network.bus()
    text = refusal(door, bus.work.who)
    assert f"offers it to holders of the key {OURS.fingerprint}: compare `lightbus keys show`" in text
    assert refused_peers(bus) == []
    assert "refused" not in worker.output


@pytest.mark.parametrize("whose", ["another key", "mode insecure", "mode host"])
def test_a_fixed_peer_that_refuses(network: Network, whose: str, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right key, or any, the caller gets the fixed peer's refusal, and the worker counts it."""
    network.use("seed", key=OURS.text)
    worker = network.start_seed(mdns=False)
    if whose == "another key":
        monkeypatch.setenv("LIGHTBUS_BUS_KEY", OTHER.text)
    else:
        monkeypatch.delenv("LIGHTBUS_BUS_KEY")
        monkeypatch.setenv("LIGHTBUS_SECURITY", whose.removeprefix("mode "))
    text = refusal(door, network.bus().work.who)
    assert f"the fixed peer tcp://127.0.0.1:{network.seed_port} breaks off the handshake: it " in text
    assert ("has another key than ours" if whose == "another key" else "may require a key") in text
    worker.wait_for_line(r"WARNING +lightbus.security: refused \d+ connections so far, the last from .*: it ")
    assert len(re.findall("refused .* connections", worker.output)) == 1
    assert "Traceback" not in worker.output


def test_a_keyed_caller_does_not_trust_a_plain_worker(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with a key does not use a worker without one."""
    network.use("seed")
    network.start_seed(mdns=False)
    network.use("seed", key=OURS.text)
    assert "breaks off the handshake: it has another key than ours" in refusal(DOORS["sync"], network.bus().work.who)


# --- a key is replaced ------------------------------------------------------------------------------


@contextmanager
def calls(bus: BusPath) -> Iterator[None]:
    """Call continuously, sync and async in turn; every call is answered."""
    stop = threading.Event()

    def call() -> int:
        made = 0
        while not stop.is_set():
            for door in DOORS.values():
                assert door.call(bus.work.who)
                made += 1
        return made

    with ThreadPoolExecutor(1) as executor:
        calling = executor.submit(call)
        try:
            yield
        finally:
            stop.set()
        assert calling.result(60) > 0


def wait_for_workers(bus: BusPath, count: int) -> None:
    """Return when this many workers are known."""
    wait_until(lambda: len(bus.client.engine.snapshot.by_api.get("work", ())) == count, what=f"{count} are known")


@pytest.mark.long
def test_a_key_is_replaced_while_calls_flow(
    network: Network, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add, promote, remove, each with a restart of all processes, one after the other: no call is lost."""
    monkeypatch.setenv("LIGHTBUS_INTERFACES", "127.0.0.1")
    monkeypatch.delenv("LIGHTBUS_BUS")
    assert processes.lightbus("keys", "init").wait() == 0
    workers = [network.start(ready=False), network.start(ready=False)]
    for worker in workers:
        worker.wait_for_line("Ready")
    spoken = [network.bus().client.engine.transport.security.fingerprints]
    for phase in ("add", "promote", "remove"):
        bus = network.bus()
        bus.client.wait_for_apis("work")
        assert processes.lightbus("keys", "rotate", phase).wait() == 0
        with calls(bus):
            for number, worker in enumerate(workers):
                workers[number] = network.start()
                wait_for_workers(bus, 3)
                worker.ask_to_end()
                assert worker.wait() == 0
        spoken.append(network.bus().client.engine.transport.security.fingerprints)
        # One that ends breaks off what it has begun, and one that is held up refuses calls: that is no key refused.
        refusals = [line for worker in workers for line in worker.output.splitlines() if "refused" in line]
        others = ("it broke off the handshake", "The event loop was blocked")
        assert [line for line in refusals if not any(other in line for other in others)] == []
    (old,), (_, new), *_ = spoken
    assert spoken == [(old,), (old, new), (new, old), (new,)]
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", OTHER.text)
    monkeypatch.setenv("LIGHTBUS_BUS", old)  # the name stays what it was
    assert f"it has the key {new}" in refusal(DOORS["sync"], network.bus().work.who)


def test_a_fixed_peer_with_the_next_key(network: Network, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a replacement a fixed peer may use either key: both are tried, without an effect on the caller."""
    following = BusKey.generate(OURS.bus)
    network.use("seed", key=f"{following.text},{OURS.text}")
    worker = network.start_seed(mdns=False)
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", f"{OURS.text},{following.text}")
    assert door.call(network.bus().work.who) == worker.pid


# --- the gate's thread ------------------------------------------------------------------------------

WORKER_THAT_FORKS = """
from work import bus
import os, sys, threading, time
bus.client.start_in_background()
assert bus.work.echo(value=1) == 1
assert "lightbus-gate" in {thread.name for thread in threading.enumerate()}
child = os.fork()
if child == 0:
    assert "lightbus-gate" not in {thread.name for thread in threading.enumerate()}
    assert bus.work.echo(value=2) == 2
    {leave}
assert os.waitpid(child, 0)[1] == 0
assert bus.work.echo(value=3) == 3
print("left", flush=True)
"""


@pytest.mark.parametrize("leave", ["sys.exit()", "os._exit(0)", "bus.client.close(); sys.exit()"])
def test_a_keyed_worker_forks_and_ends(network: Network, processes: Processes, leave: str) -> None:
    """A child has no gate until it needs one and closes none of its parent's; both end at once."""
    network.use("bus_key", key=OURS.text)
    code = WORKER_THAT_FORKS.replace("{leave}", leave)
    script = processes.python("-W", "ignore", "-c", code, cwd=PROGRAMS)
    script.wait_for_line("^left$")
    watch = Stopwatch()
    assert script.wait() == 0
    assert watch.seconds < IN_TIME
    assert "Traceback" not in script.output


# --- who pretends -----------------------------------------------------------------------------------


@contextmanager
def announced(announcement: Announcement) -> Iterator[None]:
    """Announce a peer, as any host on the network can."""
    import asyncio

    async def main() -> None:
        voice = ZeroconfDiscovery(announcement.bus)
        await voice.start(lambda found: None, lambda lost: None)
        await voice.announce(announcement)
        loop.append((asyncio.get_running_loop(), stop := asyncio.Event()))
        ready.set()
        await stop.wait()
        await voice.stop()

    loop: list[tuple[Any, Any]] = []
    ready = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(asyncio.run, main())
        assert ready.wait(60)
        try:
            yield
        finally:
            loop[0][0].call_soon_threadsafe(loop[0][1].set)
            running.result(60)


@contextmanager
def trap() -> Iterator[tuple[int, list[bytes]]]:
    """Return the port of a listener that accepts connections and records their data, without a valid answer."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as executor:
        server.settimeout(0.05)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(0.2)
                    connection.sendall(GREETING)
                    try:
                        while data := connection.recv(4096):
                            heard.append(data)
                            connection.sendall(b"\x04\x26\x05ERROR" + bytes(32))
                    except OSError:
                        pass

        serving = executor.submit(serve)
        try:
            yield server.getsockname()[1], heard
        finally:
            stop.set()
            serving.result(60)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
"""What a side that speaks CURVE begins with (RFC 37, section 3.3)."""


def test_a_spoofed_announcement_costs_a_failed_handshake(network: Network) -> None:
    """Right names and fingerprint, a foreign port: it is refused, gets no data, and delays no process."""
    network.use("bus_key", key=OURS.text)
    worker = network.start()
    bus = network.bus()
    with trap() as (port, heard):
        spoof = Announcement(
            bus=bus.client.config.bus_name, instance=new_instance_id(), service="peer", process="p", host="h",
            addresses=("127.0.0.1",), rpc_port=port, event_port=port, fingerprint=OURS.fingerprint,
            api_names=("work", "vault"),
        )  # fmt: skip
        with announced(spoof):
            assert "breaks off the handshake" in refusal(DOORS["sync"], bus.vault.who, what=SECRET)
            assert refused_peers(bus) == [spoof.instance]
            for door in [*DOORS.values()] * 5:
                assert door.call(bus.work.who) == worker.pid
    assert heard
    assert SECRET.encode() not in b"".join(heard)
    assert "Traceback" not in worker.output


# --- who listens in ---------------------------------------------------------------------------------


class Relay:
    """A recording relay: data sent to a port of 127.0.0.2 goes on to that of 127.0.0.1, and is recorded."""

    def __init__(self, ports: tuple[int, int], stack: ExitStack) -> None:
        self.heard: dict[str, bytearray] = {"there": bytearray(), "back": bytearray()}
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._ends: dict[socket.socket, tuple[socket.socket, str]] = {}
        self._stop, wake = socket.socketpair()
        stack.enter_context(self._stop)
        stack.enter_context(wake)
        self._selector.register(wake, selectors.EVENT_READ, None)
        for port in ports:
            server = stack.enter_context(socket.create_server(("127.0.0.2", port)))
            self._selector.register(server, selectors.EVENT_READ, port)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        stack.callback(self._end)

    def everything(self) -> bytes:
        """Return all recorded data, in both directions."""
        return bytes(self.heard["there"] + self.heard["back"])

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if key.data is None:
                    return
                if isinstance(key.data, int):
                    self._accept(source, key.data)
                else:
                    self._pass_on(source)

    def _accept(self, server: socket.socket, port: int) -> None:
        here, _ = server.accept()
        there = socket.create_connection(("127.0.0.1", port))
        for source, target, way in ((here, there, "there"), (there, here, "back")):
            self._ends[source] = target, way
            self._selector.register(source, selectors.EVENT_READ, way)

    def _pass_on(self, source: socket.socket) -> None:
        if source not in self._ends:
            return
        target, way = self._ends[source]
        try:
            data = source.recv(65536)
            target.sendall(data)
        except OSError:
            data = b""
        self.heard[way] += data
        if not data:
            for end in (source, target):
                self._selector.unregister(end)
                del self._ends[end]
                end.close()

    def _end(self) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for end in self._ends:
            end.close()


@pytest.fixture
def overheard(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], tuple[Relay, Process]]]:
    """Return a function that starts a worker in a mode, with a relay in front of it as its callers' fixed peer."""
    with ExitStack() as stack:

        def start(mode: str) -> tuple[Relay, Process]:
            network.use("seed", key=OURS.text if mode == "bus_key" else "")
            ports = network.seed_port, free_port()
            config = network.config(
                discovery={"mdns": False, "peers": []}, network={"rpc_port": ports[0], "event_port": ports[1]}
            )
            worker = network.start(LIGHTBUS_CONFIG=config, LIGHTBUS_PEERS="", RECORD=str(record))
            monkeypatch.setenv("LIGHTBUS_PEERS", f"127.0.0.2:{ports[0]}")
            return Relay(ports, stack), worker

        record = Path(os.environ["TMPDIR"]) / "record"
        yield start
        record.unlink(missing_ok=True)


def free_port() -> int:
    """Return a TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("mode", "finds"), [("insecure", True), ("bus_key", False)])
def test_an_eavesdropper_reads_nothing(
    network: Network, overheard: Callable[[str], tuple[Relay, Process]], mode: str, finds: bool
) -> None:
    """Arguments, results, events and names of procedures are readable without a key, and not with one."""
    relay, worker = overheard(mode)
    bus = network.bus()
    for door in DOORS.values():
        assert door.call(bus.work.take, token=SECRET) == SECRET
    heard = []
    bus.work.happened.listen(lambda message, what: heard.append(what), listener_name="ear")
    bus.client.start_in_background()
    wait_until(lambda: bus.work.happened.fire(what=SECRET) and heard, timeout=10)
    wire = relay.everything()
    assert min(map(len, relay.heard.values())) > 500
    for text in (SECRET, "take", "happened", "peer"):
        assert (text.encode() in wire) is finds, text
    assert "Traceback" not in worker.output


def test_a_replay_has_no_effect(network: Network, overheard: Callable[[str], tuple[Relay, Process]]) -> None:
    """A recorded conversation that is sent again leads to a failed handshake: nothing is executed twice."""
    relay, worker = overheard("bus_key")
    bus = network.bus()
    assert bus.work.take(token="once") == "once"
    record = Path(os.environ["TMPDIR"]) / "record"
    assert record.read_text() == "once\n"
    recorded = bytes(relay.heard["there"])
    for _ in range(scaled(100, least=10)):
        with socket.create_connection(("127.0.0.1", network.seed_port)) as connection:
            connection.sendall(recorded)
            connection.settimeout(5)
            with suppress(ConnectionResetError):
                while connection.recv(65536):
                    continue  # until the worker closes it
    assert bus.work.take(token="twice") == "twice"
    assert record.read_text() == "once\ntwice\n"
    worker.wait_for_line(r"lightbus.security: refused \d+ connections so far")
    assert "Traceback" not in worker.output


def test_random_frames_do_no_harm(network: Network, overheard: Callable[[str], tuple[Relay, Process]]) -> None:
    """Whatever is sent during or instead of a handshake, the worker continues, and so do its callers."""
    _, worker = overheard("bus_key")
    bus = network.bus()
    for number in range(scaled(500, least=50)):
        noise = os.urandom(200)
        hello = b"\x04\xc8\x05HELLO\x01\x00" + noise[8:]
        with socket.create_connection(("127.0.0.1", network.seed_port)) as connection:
            connection.sendall((noise, GREETING + noise, GREETING + hello, GREETING[:20], b"")[number % 5])
        if number % 10 == 0:
            assert bus.work.who() == worker.pid
    assert bus.work.who() == worker.pid
    worker.wait_for_line(r"lightbus.security: refused \d+ connections so far")
    assert len(re.findall("refused .* connections", worker.output)) <= 3
    assert "Traceback" not in worker.output
