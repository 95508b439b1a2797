"""Workers that are killed, ended and stopped at random during calls; invariants that always hold."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import SCALE, Process, Stopwatch, scaled, wait_until
from lightbus import (
    BusPath,
    LightbusException,
    LightbusTimeout,
    NotReachable,
    PeerBusy,
    PeerLost,
    PeerRefused,
    PeerUnreachable,
    UnknownApi,
)

if TYPE_CHECKING:
    from network.conftest import Network

SECONDS = scaled(150, least=10)
WORKERS = 3
MAY_HAPPEN = (PeerLost, LightbusTimeout, PeerUnreachable, PeerRefused, UnknownApi, PeerBusy)
"""Refused, where none of ours is there for a while: on loopback another test's bus, with a key, offers the same."""
GRACE = 1.0
"""Seconds after its deadline in which a call must have ended, those left out in which the machine was too busy."""


@dataclass
class Calls:
    """The outcome of every call, by its token. Appending to a list needs no lock."""

    answered: list[str] = field(default_factory=list)
    failed: list[tuple[str, LightbusException]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def ended(self, token: str, error: LightbusException | None, over: float) -> None:
        """Record how a call ended, and how many seconds after its deadline."""
        if error is None:
            self.answered.append(token)
        else:
            self.failed.append((token, error))
        if over > GRACE:
            self.late.append(f"{token} ended {over:.1f} s after its deadline with {error!r}")


class Callers:
    """Threads and tasks that call continuously until they are stopped."""

    def __init__(self, bus: BusPath, chaos: random.Random, *, threads: int = 4, tasks: int = 8) -> None:
        self.calls = Calls()
        self._bus = bus
        self._stop = threading.Event()
        seeds = [chaos.randrange(2**32) for _ in range(threads + tasks)]
        self._threads = [threading.Thread(target=self._call, args=(seed,)) for seed in seeds[:threads]]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._call_together(seeds[threads:]))))

    def __enter__(self) -> Calls:
        for thread in self._threads:
            thread.start()
        return self.calls

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, seed: int) -> None:
        own = random.Random(seed)
        number = 0
        while not self._stop.is_set():
            number += 1
            token, timeout = f"sync-{seed}-{number}", own.uniform(0.3, 3)
            path = own.choice([self._bus.work.take, self._bus.work.take_def])
            watch, error = Stopwatch(), None
            try:
                assert path(token=token, bus_options={"timeout": timeout}) == token
            except MAY_HAPPEN as raised:
                error = raised
            self.calls.ended(token, error, watch.seconds - timeout)
            time.sleep(own.uniform(0, 0.01))

    async def _call_together(self, seeds: list[int]) -> None:
        async with asyncio.TaskGroup() as group:
            for seed in seeds:
                group.create_task(self._call_async(seed))

    async def _call_async(self, seed: int) -> None:
        own = random.Random(seed)
        number = 0
        while not self._stop.is_set():
            number += 1
            token, timeout = f"async-{seed}-{number}", own.uniform(0.3, 3)
            path = own.choice([self._bus.work.take, self._bus.work.take_def])
            watch, error = Stopwatch(), None
            try:
                assert await path.call_async(token=token, bus_options={"timeout": timeout}) == token
            except MAY_HAPPEN as raised:
                error = raised
            self.calls.ended(token, error, watch.seconds - timeout)
            await asyncio.sleep(own.uniform(0, 0.02))


class Fate:
    """The failures of the workers."""

    def __init__(self, network: Network, chaos: random.Random, record: Path) -> None:
        self.happened: Counter[str] = Counter()
        self._network = network
        self._chaos = chaos
        self._record = record
        self.workers = [self._start() for _ in range(WORKERS)]
        for worker in self.workers:
            worker.wait_for_line("Ready")

    def strike(self, seconds: float) -> None:
        """Repeat an action for a number of seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            what = self._chaos.choice([self._kill, self._kill_soon_again, self._end, self._pause, self._pause_all])
            self.happened[what.__name__.strip("_")] += 1
            what(self._chaos.randrange(WORKERS))
            time.sleep(self._chaos.uniform(0, 0.5))

    def _start(self) -> Process:
        return self._network.start(ready=False, RECORD=str(self._record))

    def _kill(self, number: int) -> None:
        self.workers[number].kill()
        time.sleep(self._chaos.uniform(0, 0.5))
        self.workers[number] = self._start()

    def _kill_soon_again(self, number: int) -> None:
        self._kill(number)
        time.sleep(self._chaos.uniform(0, 0.8))  # it may be in the middle of its start
        self._kill(number)

    def _end(self, number: int) -> None:
        self.workers[number].ask_to_end()
        time.sleep(self._chaos.uniform(0, 0.3))
        self.workers[number] = self._start()

    def _pause(self, number: int) -> None:
        self._stop_and_continue([self.workers[number]])

    def _pause_all(self, number: int) -> None:
        self._stop_and_continue(self.workers)

    def _stop_and_continue(self, workers: list[Process]) -> None:
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        time.sleep(self._chaos.uniform(0.1, 2.5))
        for worker in workers:
            worker.signal(signal.SIGCONT)


@pytest.mark.long
@pytest.mark.timeout(60 + 2 * SECONDS)
@pytest.mark.parametrize("mode", ["host", "insecure", "bus_key"])
def test_whatever_happens_to_workers(
    network: Network, chaos: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """
    Every call ends within a second of its deadline in a result or an error that says what is known: one with a result
    was executed exactly once, one that was not reachable not at all, any other at most once. Then all is well again.
    """
    network.use(mode)
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(network={"heartbeat_interval": 0.3, "heartbeat_timeout": 1.0}))
    record = tmp_path / "record"
    fate, bus = Fate(network, chaos, record), network.bus()
    with Callers(bus, chaos) as calls:
        wait_until(lambda: calls.answered, 30, "a first call is answered")
        fate.strike(SECONDS / 2)
    print(f"{dict(fate.happened)}; {len(calls.answered)} answered")
    print(f"failed: {dict(Counter(type(error).__name__ for _, error in calls.failed))}")
    executed = Counter(record.read_text().split())
    assert calls.late == []
    assert [token for token, count in executed.items() if count > 1] == []
    assert [token for token in calls.answered if executed[token] != 1] == []
    assert [
        (token, error) for token, error in calls.failed if isinstance(error, NotReachable) and executed[token]
    ] == []
    assert len(calls.answered) > 100 * SCALE
    for worker in fate.workers:
        worker.wait_for_line("Ready")
    bus.client.wait_for_apis("work")
    pids = {worker.pid for worker in fate.workers}
    wait_until(lambda: pids == {bus.work.who() for _ in range(30)}, 10, what="all workers are used again")
    assert asyncio.run(bus.work.take.call_async(token="last")) == "last"
