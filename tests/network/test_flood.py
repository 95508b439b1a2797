"""Thousands of announced peers that do not exist: real ones are found and called, and the cost is bounded."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers import Door, Process, scaled, wait_until
from helpers.lan import Host, Lan
from lightbus import BusPath
from lightbus.config.keys import BusKey
from lightbus.membership.dialer import FOR_ASKED, MAX_ADDRESSES_TRIED
from lightbus.ports.transport import MOST_ENDPOINTS
from lightbus.wire.announcement import Announcement

from .conftest import Network

PROGRAMS = Path(__file__).parent / "programs"

ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 18))
PER_ADDRESS = 4
"""Descriptors that an attempt at one address takes."""


class BlackHole:
    """Accepts connections at sixteen addresses, and sends nothing."""

    def __init__(self) -> None:
        self.tried = 0
        self._stack = ExitStack()
        self.port = 0
        listeners = [self._listen(address) for address in ADDRESSES]
        self._threads = [threading.Thread(target=self._take, args=(each,), daemon=True) for each in listeners]
        for thread in self._threads:
            thread.start()

    def _listen(self, address: str) -> socket.socket:
        listener = self._stack.enter_context(socket.create_server((address, self.port)))
        self.port = listener.getsockname()[1]
        listener.settimeout(0.2)
        return listener

    def _take(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:
            try:
                connection, _ = listener.accept()
            except (TimeoutError, OSError):
                continue
            self.tried += 1
            self._stack.enter_context(connection)

    def close(self) -> None:
        self._stack.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    """Return a host that accepts connections and answers nothing."""
    made = BlackHole()
    yield made
    made.close()


@pytest.fixture
def flood(black_hole: BlackHole) -> Callable[[BusPath], None]:
    """Return a function that announces fakes of the API `work` to a process, as a foreign host could."""

    def flood(bus: BusPath) -> None:
        engine = bus.client.engine
        node, loop = engine.loop_host.ensure()
        on_host = engine.transport.security.mode == "host"
        for number in range(scaled(5000, least=1200)):
            fake = Announcement(
                bus=engine.identity.bus,
                instance=f"{number:016x}",
                service="fake",
                process="fake",
                host="fake",
                api_names=("work",),
                addresses=() if on_host else ADDRESSES,
                rpc_port=0 if on_host else black_hole.port,
                event_port=0 if on_host else black_hole.port,
            )
            loop.call_soon_threadsafe(node._found, fake)

    return flood


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_flood_of_announcements(
    network: Network,
    flood: Callable[[BusPath], None],
    black_hole: BlackHole,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    when: str,
    door: Door,
) -> None:
    """The first call is answered whether the worker was announced before or after the fakes; all costs are bounded."""
    network.use(mode)
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(discovery={"wait": 30}))  # a busy machine takes its time
    bus = network.bus()
    before = len(os.listdir("/proc/self/fd"))
    if when == "before":
        worker = network.start()
        wait_until(lambda: _known(bus, 1))
        flood(bus)
    else:
        flood(bus)
        wait_until(lambda: _known(bus, 900) or mode == "host")
        worker = network.start()
    assert door.call(bus.work.who, bus_options={"timeout": 30}) == worker.pid
    for _ in range(20):
        assert door.call(bus.work.who) == worker.pid
        most = before + PER_ADDRESS * (MAX_ADDRESSES_TRIED + MOST_ENDPOINTS * FOR_ASKED) + black_hole.tried + 64
        assert len(os.listdir("/proc/self/fd")) <= most


def _known(bus: BusPath, count: int) -> bool:
    node, _ = bus.client.engine.loop_host.ensure()
    return len(node.registry.peers) >= count


# By multicast, from a host on the network


def processor_time(process: Process) -> float:
    """Return the processor seconds of a program."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_calls(caller: Host, count: int, settings: Path) -> list[tuple[str, float]]:
    """Return the targets of the first calls of several new processes, started together, and their durations."""
    settings.write_text(json.dumps({"discovery": {"wait": 4}}))  # in a crowd 15 times that: a busy machine takes time
    env = {"ONCE": "1", "TIMEOUT": "60", "LIGHTBUS_CONFIG": str(settings)}
    processes = [caller.python("lan_caller.py", cwd=PROGRAMS, name="caller", **env) for _ in range(count)]
    found = []
    for process in processes:
        assert process.wait(120) == 0, process.report()
        seconds, where = process.wait_for_line(r"^first (\S+) (.*)").groups()
        found.append((where, float(seconds)))
    return found


@pytest.mark.network
@pytest.mark.long
@pytest.mark.parametrize(
    ("claims", "what"),
    [
        ("no key", "announcements"),
        ("our key", "announcements"),
        ("our key", "goodbyes"),
        ("no key", "questions"),
    ],
)
def test_a_flood_by_multicast(
    lan: Lan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, claims: str, what: str
) -> None:
    """New processes find the worker among thousands of fakes; when those stop, so do most attempts at them."""
    key = BusKey.generate()
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", key.text)
    here, there, strange = (lan.host(number) for number in (1, 2, 3))
    worker = here.worker("lan_worker", PROGRAMS)
    worker.wait_for_line("Ready")
    announcer = strange.python(
        "announcer.py",
        cwd=PROGRAMS,
        COUNT=str(scaled(5000, least=1200)),
        RATE="600",
        ADDRESS=strange.address,
        FINGERPRINT=key.fingerprint if claims == "our key" else "",  # everybody can hear that
        WHAT=what,
    )
    announcer.wait_for_line("all are announced", 60)
    calls = first_calls(there, 3, tmp_path / "settings.json")
    assert [where for where, _ in calls] == ["h1"] * 3
    descriptors = len(os.listdir(f"/proc/{worker.pid}/fd"))
    assert descriptors <= 64 + PER_ADDRESS * (MAX_ADDRESSES_TRIED + MOST_ENDPOINTS * FOR_ASKED)
    announcer.kill()
    shares: list[float] = []

    def is_idle() -> bool:
        before, watch = processor_time(worker), time.monotonic()
        time.sleep(2)
        shares.append((processor_time(worker) - before) / (time.monotonic() - watch))
        return shares[-1] < 0.2

    wait_until(is_idle, 60, what="the worker is idle again")
    print(f"measured: first calls {[seconds for _, seconds in calls]} s, {descriptors} descriptors, then {shares} CPU")
