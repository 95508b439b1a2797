"""Listeners that block their loops, or are stopped, during many events: no process fails, or is slowed down."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import Process, Processes, scaled, wait_until

from .conftest import Network

PROGRAMS = Path(__file__).parent / "programs"
MODES = ["host", "insecure", "bus_key"]
MIB = 1024 * 1024


@pytest.fixture
def start(processes: Processes, network: Network, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """Return a function that starts a worker: silence is detected after a second, hanging after three."""
    beats = {"heartbeat_interval": 0.3, "heartbeat_timeout": 1.0}
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(network=beats, worker={"member_timeout": 3.0}))

    def start(module: str, **env: str) -> Process:
        process = processes.worker(module, cwd=PROGRAMS, env=env)
        process.wait_for_line("Ready")
        return process

    return start


def handled(process: Process) -> set[int]:
    """Return the numbers that a process has handled."""
    return {int(number) for number in re.findall(r"^\w+ (\d+)\.$", process.stdout, re.MULTILINE)}


def memory(process: Process) -> int:
    """Return the present memory of a process in bytes."""
    [kib] = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_that_is_blocked_during_a_burst(network: Network, start: Callable[..., Process], mode: str) -> None:
    """A process whose loop was blocked for many heartbeats handles all events fired in the meantime."""
    network.use(mode)
    publisher, listener = start("sale"), start("tally", BLOCK="5")
    listener.wait_for_line(r"Events of sale .* arrive")
    bus, count = network.bus(), scaled(40_000)
    bus.sale.sell.call(first=0, count=1)
    listener.wait_for_line("^blocks")
    bus.sale.sell.call(first=1, count=count, bus_options={"timeout": 60})
    wait_until(lambda: len(handled(listener)) == count + 1 or not listener.running, 60, what="all are handled")
    assert handled(listener) == set(range(count + 1))
    assert publisher.running


@pytest.fixture
def stopped() -> Iterator[Callable[[Process], None]]:
    """Return a function that stops a process until the end of the test."""
    processes: list[Process] = []

    def stop(process: Process) -> None:
        process.signal(signal.SIGSTOP)
        processes.append(process)

    yield stop
    for process in processes:
        process.signal(signal.SIGCONT)


@pytest.mark.long
@pytest.mark.parametrize(("how", "size"), [("stopped", MIB // 4), ("blocked", MIB // 4), ("blocked", 3 * MIB)])
def test_memory_is_not_filled_for_a_listener_that_hangs(
    network: Network, start: Callable[..., Process], stopped: Callable[[Process], None], how: str, size: int
) -> None:
    """Events fired while a listener does not read wait in the journal, and in the memory of neither side."""
    count = 224 * MIB // size
    publisher, listener = start("sale"), start("tally", BLOCK="0" if how == "stopped" else "8")
    listener.wait_for_line(r"Events of sale .* arrive")
    bus = network.bus()
    bus.sale.sell.call(first=0, count=1)
    wait_until(lambda: listener.stdout)
    before = memory(publisher), memory(listener)
    if how == "stopped":
        stopped(listener)
    most = before
    for first in range(1, count + 1, 10):
        bus.sale.sell.call(first=first, count=10, size=size, bus_options={"timeout": 60})
        most = max(most[0], memory(publisher)), max(most[1], memory(listener))
    if how == "stopped":
        listener.signal(signal.SIGCONT)
    wait_until(lambda: len(handled(listener)) >= count + 1, 60, what="all are handled")
    most = max(most[0], memory(publisher)), max(most[1], memory(listener))
    assert [after - at_first < 176 * MIB for after, at_first in zip(most, before, strict=True)] == [True, True]


@pytest.mark.parametrize("mode", MODES)
def test_missed_events_of_best_effort_are_counted(
    network: Network, start: Callable[..., Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Each event is handled or counted as missed, without a stop of the listener or another event."""
    network.use(mode)
    patient = network.config(
        network={"heartbeat_timeout": 30.0}, worker={"member_timeout": 3.0}
    )  # of calls none is lost
    monkeypatch.setenv("LIGHTBUS_CONFIG", patient)
    start("stream")
    listener = start("misses", UNTIL=str(tmp_path / "end"))
    bus = network.bus()

    def fire(count: int, number: str) -> None:
        arguments = [{"number": number}] * count
        bus.stream.fire_each.call(event="loose", arguments=arguments, bus_options={"timeout": 60})

    def done() -> tuple[int, int]:
        handled = bus.misses.handled.call(bus_options={"timeout": 60})
        [peer] = bus.client.engine.snapshot.by_api["misses"]
        told = bus.internal.peer.stats(bus_options={"peer": peer.instance, "timeout": 60})
        return handled, told["listeners"][0]["dropped"]

    listener.wait_for_line(r"Events of stream .* arrive")
    fire(512, "each topic has one")  # 16 in a row have the same one: 200 were for 13 of 16
    wait_until(lambda: done() == (512, 0), 60)
    fire(1, "block")
    listener.wait_for_line("^blocks")
    for _ in range(20):
        fire(1000, "x" * 8000)
    (tmp_path / "end").touch()
    wait_until(lambda: sum(done()) == 20_513, 120, what="each event is handled, or counted")
    assert done()[1] > 0
    assert sum(done()) == 20_513
    assert "were lost in transit" in listener.output or "is too slow" in listener.output


def goes_on(bus: Any, members: list[Process]) -> bool:
    """Return whether a member no longer blocks its loop; otherwise fire more events for it."""
    # Events that wait while all are stopped for long are left to each other; best-effort ones are in no journal.
    bus.stream.fire_each.call(event="loose", arguments=[{"number": 0}] * 10, bus_options={"timeout": 60})
    return any("goes on" in member.stdout for member in members)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["host", "insecure"])
def test_careless_listeners_end_in_order(network: Network, start: Callable[..., Process], mode: str) -> None:
    """Processes that join and leave a group, and sometimes block their loops, end when they are told to."""
    network.use(mode)
    start("stream")
    bus, codes = network.bus(), []
    for _ in range(scaled(20)):
        members = [start("careless", BLOCK="1.5") for _ in range(2)]
        for first in range(0, 40_000, 5_000):
            arguments = [{"number": number} for number in range(first, first + 5_000)]
            bus.stream.fire_each.call(event="loose", arguments=arguments, bus_options={"timeout": 60})
        wait_until(lambda members=members: goes_on(bus, members))
        for member in members:
            member.ask_to_end()
        codes += [member.wait(60) for member in members]
    assert set(codes) == {0}
