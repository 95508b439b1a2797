"""Processes that find each other: in every mode, in any order, and in spite of invalid announcements."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers import DOORS, MS, Door, Process, Processes, Stopwatch, scaled, wait_until
from helpers.surroundings import Surroundings
from lightbus import PeerUnreachable, UnknownApi
from lightbus.adapters.mdns.discovery import SERVICE_TYPE, ZeroconfDiscovery
from lightbus.membership.link import HELLO_TIMEOUT
from lightbus.wire.announcement import Announcement, new_instance_id

if TYPE_CHECKING:
    from network.conftest import Network

SERVICES = Path(__file__).parent / "services"
MODES = ("host", "insecure", "seed", "both")
APIS = ("a", "b", "c", "d")

AT_ONCE = 500 * MS
"""Seconds in which whoever comes new knows everybody, and an error that needs no waiting comes."""

REFUSED, SILENT = "nobody listens", "nobody answers"


def knows_after(processes: Processes, *apis: str) -> tuple[float, float]:
    """Return the seconds until a new process knows these APIs, and the part of them that it was waiting."""
    env = {"PYTHONPATH": str(SERVICES.parents[1])}  # it uses helpers
    newcomer = processes.python("knows.py", *apis, cwd=SERVICES, env=env, name="newcomer")
    assert newcomer.wait() == 0
    seconds, waited = map(float, newcomer.stdout.split())
    return seconds, waited


@pytest.mark.parametrize("mode", MODES)
def test_newcomer_knows_four_workers_at_once(network: Network, processes: Processes, mode: str) -> None:
    """A new process waits less than half a second until it knows four workers, however it finds them."""
    network.use(mode)
    network.start_all(mode, *APIS)
    found = [knows_after(processes, *APIS) for _ in range(scaled(20))]
    print(f"known after, in {mode}: {sorted(found)}")
    # What it computes meanwhile, imports above all, takes as long as the machine makes it.
    assert max(waited for _, waited in found) < AT_ONCE


@pytest.mark.parametrize("mode", MODES)
def test_workers_know_each_other(network: Network, mode: str) -> None:
    """A worker started after another one is known to all processes that knew the first, and is called."""
    network.use(mode)
    bus = network.bus()
    first = network.start_all(mode, "a")[0]
    assert bus.a.who() == first.pid
    second = network.start("b")
    bus.client.wait_for_apis("b")
    assert bus.b.who() == second.pid


@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
def test_buses_do_not_see_each_other(
    network: Network, surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Of two buses on one host, with the same API on both, each calls its own worker only."""
    network.use(mode)
    for name in (surroundings.bus, f"{surroundings.bus}-other"):
        monkeypatch.setenv("LIGHTBUS_BUS", name)
        worker, bus = network.start("work"), network.bus()
        network.start(f"only-{name}")
        bus.client.wait_for_apis("work", f"only-{name}")
        assert {bus.work.who() for _ in range(10)} == {worker.pid}
        assert bus.client.engine.snapshot.api_names() == [f"only-{name}", "work"]


def test_fixed_peer_of_another_bus_is_not_used(
    network: Network, surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fixed peer that turns out to be on another bus is not used, and the reason is reported."""
    network.use("seed")
    network.start_all("seed", "work")
    monkeypatch.setenv("LIGHTBUS_BUS", f"{surroundings.bus}-other")
    other = network.start("mine")
    other.wait_for_line(f"refused us: this is the bus '{surroundings.bus}', not '{surroundings.bus}-other'")
    with pytest.raises(UnknownApi):
        network.bus().work.who()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_fixed_peer_by_name(network: Network, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A fixed peer may be given by its host's name."""
    network.use("seed")
    worker = network.start_all("seed", "work")[0]
    monkeypatch.setenv("LIGHTBUS_PEERS", f"{host}:{network.seed_port}")
    assert network.bus().work.who() == worker.pid


@pytest.mark.parametrize("mode", ["host", "seed"])
def test_worker_may_come_after_its_callers(network: Network, door: Door, mode: str) -> None:
    """A caller that started first, and even got an error without a worker, finds the worker when it starts."""
    network.use(mode)
    bus = network.bus()
    with pytest.raises(UnknownApi):
        door.call(bus.work.who)
    worker = network.start_all(mode, "work")[0]
    bus.client.wait_for_apis("work", timeout=60)
    assert door.call(bus.work.who) == worker.pid


def test_fixed_peer_that_is_ourselves(network: Network) -> None:
    """A worker that is its own fixed peer ignores it."""
    network.use("seed")
    worker = network.start_all("seed", "work")[0]
    assert network.bus().work.who() == worker.pid
    assert "fixed peer" not in worker.output


def test_many_fixed_peers(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several fixed peers one that answers is enough; the others are reported once each."""
    network.use("seed")
    worker = network.start_all("seed", "work")[0]
    with ExitStack() as stack:
        silent = stack.enter_context(silent_port())
        monkeypatch.setenv("LIGHTBUS_PEERS", f"127.0.0.1:1,127.0.0.1:{silent},127.0.0.1:{network.seed_port}")
        bus = network.bus()
        assert bus.work.who() == worker.pid
        other = network.start("other")
        other.wait_for_line(r"127.0.0.1:1 is not there: nothing listens at its address; it will be tried again")
        other.wait_for_line(rf"127.0.0.1:{silent} does not answer; it will be tried again")
        bus.client.wait_for_apis("other")
        assert bus.other.who() == other.pid
    assert other.output.count("127.0.0.1:1 ") == 1


# Nobody there


def test_unknown_api_is_an_error_soon(network: Network, door: Door) -> None:
    """A new process waits a second for an unknown API, a settled one not at all; both errors list the known APIs."""
    network.start("warehouse")
    bus = network.bus()
    watch = Stopwatch()
    with pytest.raises(UnknownApi, match=r"'warehose'; .*Did you mean 'warehouse'\? Advertised are: warehouse\."):
        door.call(bus.warehose.who)
    assert watch.elapsed > 0.5
    assert watch.seconds < 1 + AT_ONCE
    watch = Stopwatch()
    with pytest.raises(UnknownApi):
        door.call(bus.nothing.who)
    assert watch.seconds < AT_ONCE


def test_the_wait_is_a_setting(network: Network, monkeypatch: pytest.MonkeyPatch, door: Door) -> None:
    """`discovery.wait` says how long a fresh process waits for a name."""
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(discovery={"wait": 0}))
    watch = Stopwatch()
    with pytest.raises(UnknownApi, match="No peer advertises anything"):
        door.call(network.bus().work.who)
    assert watch.seconds < AT_ONCE


# Those who lie


@contextmanager
def silent_port() -> Iterator[int]:
    """Listen at a TCP port, and send nothing to connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def silent_file(path: Path) -> Iterator[None]:
    """Listen at a unix socket, and send nothing to connections."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield
        path.unlink(missing_ok=True)


@contextmanager
def in_a_loop(life: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run a coroutine in a thread; it ends when its event is set."""
    stop, begun = asyncio.Event(), threading.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        begun.set()
        await life(stop)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@contextmanager
def announced(*announcements: Announcement) -> Iterator[None]:
    """Announce peers by zeroconf on loopback, whether they exist or not; withdraw them in the end."""

    async def life(stop: asyncio.Event) -> None:
        voices = [ZeroconfDiscovery(announcement.bus) for announcement in announcements]
        for voice, announcement in zip(voices, announcements, strict=True):
            await voice.start(lambda found: None, lambda lost: None)
            await voice.announce(announcement)
        await stop.wait()
        await asyncio.gather(*(voice.stop() for voice in voices))

    with in_a_loop(life):
        yield


def of_host(bus: str, **fields: Any) -> Announcement:
    """Return the announcement of a worker in mode host."""
    values = {"instance": new_instance_id(), "service": "ghost", "process": "p", "host": socket.gethostname()}
    return Announcement(**{"bus": bus, **values, "api_names": ("work",), **fields})


def of_tcp(bus: str, port: int, **fields: Any) -> Announcement:
    """Return the announcement of a worker with TCP ports on 127.0.0.1."""
    return of_host(bus, addresses=("127.0.0.1",), rpc_port=port, event_port=port, **fields)


@contextmanager
def ghosts(network: Network, mode: str, what: str, api: str = "work") -> Iterator[None]:
    """Announce three peers of an API that do not exist, or never answer."""
    bus = network.bus().client.config.bus_name
    with ExitStack() as stack:
        if mode == "host":
            found = [of_host(bus, api_names=(api,)) for _ in range(3)]
            places = network.bus().client.engine.network.places
            assert places is not None
            directory = places.candidates()[0]
            places.make(directory)
            if what is SILENT:
                for announcement in found:
                    stack.enter_context(silent_file(directory / f"{announcement.instance}.rpc"))
        else:
            ports = [stack.enter_context(silent_port()) if what is SILENT else port for port in (1, 2, 3)]
            found = [of_tcp(bus, port, api_names=(api,)) for port in ports]
        stack.enter_context(announced(*found))
        yield


@pytest.mark.parametrize("mode", ["host", "insecure"])
@pytest.mark.parametrize("what", [REFUSED, SILENT])
def test_missing_peers_do_not_delay_calls_to_a_worker(network: Network, mode: str, what: str) -> None:
    """Announcements without a process do not delay a call that a real worker can answer."""
    network.use(mode)
    worker = network.start()
    with ghosts(network, mode, what):
        bus = network.bus()
        for door in [*DOORS.values()] * 5:
            watch = Stopwatch()
            assert door.call(bus.work.who) == worker.pid
            assert watch.seconds < AT_ONCE


@pytest.mark.parametrize("mode", ["host", "insecure"])
@pytest.mark.parametrize("what", [REFUSED, SILENT])
def test_missing_peers_alone_cost_one_attempt(network: Network, mode: str, what: str) -> None:
    """If only missing peers are announced, a call ends after one attempt; those that may exist are named."""
    network.use(mode)
    api = f"nobody_{secrets.token_hex(4)}"  # which no other test offers to holders of a key, on this same loopback
    with ghosts(network, mode, what, api):
        bus = network.bus()
        for door in [*DOORS.values()] * 2:
            watch = Stopwatch()
            # Where nobody listens there was nobody: three times so, and they are forgotten.
            with pytest.raises(PeerUnreachable if what is SILENT else (PeerUnreachable, UnknownApi), match=f"'{api}'"):
                door.call(getattr(bus, api).who)
            assert watch.seconds < HELLO_TIMEOUT + AT_ONCE


def test_lying_announcement_is_never_called(network: Network, processes: Processes) -> None:
    """An announcement that leads to another process is not used; that process continues to serve."""
    network.use("insecure")
    network.start_seed("work")
    bus = network.bus()
    pid = bus.work.who()
    liar = of_tcp(bus.client.config.bus_name, network.seed_port, api_names=("vault",))
    with announced(liar):
        with pytest.raises(PeerUnreachable, match="vault"):
            bus.vault.who(bus_options={"timeout": 5})
        assert bus.work.who() == pid
    assert "vault" not in bus.client.engine.snapshot.by_api


def test_tcp_announcement_is_ignored_in_mode_host(network: Network) -> None:
    """In mode host no port is dialed, whatever is announced: another user could listen there."""
    bus = network.bus()
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(1.5)
        with announced(of_tcp(bus.client.config.bus_name, trap.getsockname()[1])):
            with pytest.raises(UnknownApi):
                bus.work.who()
            with pytest.raises(TimeoutError):
                trap.accept()


def test_invalid_announcements_are_ignored(network: Network, door: Door) -> None:
    """They disturb neither worker nor caller."""
    worker = network.start()
    bus = network.bus()
    name = bus.client.config.bus_name.encode()
    nonsense: list[dict[bytes, bytes | None]] = [
        {},
        {b"v": b"1", b"bus": name},
        {b"v": b"999", b"bus": name},
        {b"v": b"1", b"bus": name, b"id": b"\xff\xfe", b"svc": b"\x00"},
        {b"v": b"1", b"bus": name, b"id": b"../../etc/passwd", b"svc": b"s", b"apis": b"work"},
        {b"v": b"1", b"bus": name, b"apis": b"," * 200},
    ]
    with in_a_loop(lambda stop: _register(nonsense, stop)):
        for _ in range(20):
            assert door.call(bus.work.who) == worker.pid
        with contextlib.suppress(UnknownApi):
            door.call(bus.nothing.who)
    assert "Traceback" not in worker.output


async def _register(records: list[dict[bytes, bytes | None]], stop: asyncio.Event) -> None:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    voice = AsyncZeroconf(interfaces=["127.0.0.1"])
    for number, record in enumerate(records):
        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"nonsense-{number:016x}.{SERVICE_TYPE}",
            port=1,
            properties=record,
            server=f"nonsense-{number}.local.",
            parsed_addresses=["127.0.0.1"],
        )
        await voice.async_register_service(info, cooperating_responders=True)
    await stop.wait()
    await voice.async_close()


def test_caller_and_worker_end_in_any_order(network: Network) -> None:
    """A running caller gets an error at once when its worker has left; with a new worker it continues."""
    bus = network.bus()
    first = network.start()
    assert bus.work.who() == first.pid
    leave(first)
    wait_until(lambda: "work" not in bus.client.engine.snapshot.by_api)
    second = network.start()
    assert bus.work.who() == second.pid
    assert "Traceback" not in first.output + second.output


def leave(worker: Process) -> None:
    """Ask a worker to end, and check that it does so in order."""
    worker.ask_to_end()
    assert worker.wait() == 0
