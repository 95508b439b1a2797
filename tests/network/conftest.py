"""Shared by tests with several processes: a network of workers, all in one mode, and buses among them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import lightbus
from helpers import Process, Processes, wait_until
from helpers.lan import Lan, lan_problem
from helpers.surroundings import Surroundings
from lightbus import BusPath
from lightbus.config.keys import BusKey

SERVICES = Path(__file__).parent / "services"


class Network:
    """
    The workers of one test. What `use` sets holds for them and for the test's own buses.

    Attributes:
        seed_port: the port for calls of the workers started as the fixed peer.

    """

    def __init__(self, processes: Processes, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.seed_port = free_port()
        self._processes = processes
        self._directory = directory
        self._patch = patch
        self._buses: list[BusPath] = []

    def use(self, mode: str, *, key: str = "") -> None:
        """
        Choose how processes reach and find each other.

        `"host"`: as without any setting. `"insecure"`: TCP on 127.0.0.1. `"bus_key"`: that, with a key. `"seed"`:
        without multicast, and with one fixed peer. `"both"`: with multicast and the fixed peer. With a `key` the last
        two are encrypted, too.
        """
        if mode == "host":
            return
        self._patch.setenv("LIGHTBUS_INTERFACES", "127.0.0.1")
        if mode == "bus_key" or key:
            self._patch.delenv("LIGHTBUS_SECURITY", raising=False)
            self._patch.setenv("LIGHTBUS_BUS_KEY", key or BusKey.generate().text)
        else:
            self._patch.setenv("LIGHTBUS_SECURITY", "insecure")
        if mode in ("seed", "both"):
            self._patch.setenv("LIGHTBUS_PEERS", f"127.0.0.1:{self.seed_port}")
        if mode == "seed":
            self._patch.setenv("LIGHTBUS_CONFIG", self.config(discovery={"mdns": False}))

    def config(self, **sections: object) -> str:
        """Write a configuration file and return its path."""
        path = self._directory / f"config-{len(list(self._directory.iterdir()))}.json"
        path.write_text(json.dumps(sections))
        return str(path)

    def start(self, api: str = "work", *, ready: bool = True, **env: str) -> Process:
        """Start a worker; without `ready`, do not wait for it."""
        worker = self._processes.worker("peer", cwd=SERVICES, env={"API": api, **env})
        if ready:
            worker.wait_for_line("Ready")
        return worker

    def start_seed(self, api: str = "work", *, mdns: bool = True, ready: bool = True, **env: str) -> Process:
        """Start the worker that is the fixed peer of the others."""
        config = self.config(discovery={"mdns": mdns}, network={"rpc_port": self.seed_port})
        return self.start(api, ready=ready, **{"LIGHTBUS_CONFIG": config, **env})

    def start_all(self, mode: str, *apis: str) -> list[Process]:
        """Start a worker for each API, at the same time, and wait for all; the first is the fixed peer, if any."""
        first, *others = apis
        if mode in ("seed", "both"):
            workers = [self.start_seed(first, mdns=mode == "both", ready=False)]
        else:
            workers = [self.start(first, ready=False)]
        workers += [self.start(api, ready=False) for api in others]
        for worker in workers:
            worker.wait_for_line("Ready")
        return workers

    def bus(self) -> BusPath:
        """Return a bus of this process; it is closed at the end of the test."""
        bus = lightbus.create(service_name="caller")
        self._buses.append(bus)
        return bus

    def wait_for_calls(self, bus: BusPath, count: int) -> None:
        """Wait until the workers of `work` have this many unanswered calls."""
        peers = bus.client.engine.snapshot.by_api["work"]

        def have() -> bool:
            told = [bus.internal.peer.stats(bus_options={"peer": peer.instance}) for peer in peers]
            return sum(each["running"] + each["queued"] for each in told) == count

        wait_until(have, 20, what=f"the workers have {count} calls")

    def close(self) -> None:
        """Close the buses."""
        for bus in self._buses:
            bus.client.close()


@pytest.fixture
def network(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """Return workers, and buses to call them."""
    directory = tmp_path / "config"
    directory.mkdir()
    made = Network(processes, directory, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def patient_workers(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers queue calls on a slow machine: they refuse none because of waiting times."""
    monkeypatch.setenv("LIGHTBUS_CONFIG", network.config(worker={"max_queue_time": 30}))


def free_port() -> int:
    """Return a TCP port that is not in use at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def why_no_lan() -> str:
    """Return why this machine cannot have a network of several hosts; empty if it can."""
    return lan_problem()


@pytest.fixture
def lan(processes: Processes, surroundings: Surroundings, why_no_lan: str) -> Iterator[Lan]:
    """Return a network of hosts; skip the test if there can be none. It is removed in any case."""
    if why_no_lan:
        pytest.skip(why_no_lan)
    with closing(Lan(processes, surroundings.runtime)) as made:
        yield made
