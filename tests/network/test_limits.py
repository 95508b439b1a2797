"""Processes with different message limits: each gets what it can take, and the rest is an error at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import lightbus
from helpers import Door, Process, Processes, wait_until

from .conftest import Network

PROGRAMS = Path(__file__).parent / "programs"
SMALL, LARGE = 200_000, 10_000_000


@pytest.fixture
def start(processes: Processes, network: Network) -> Callable[[str, int], Process]:
    """Return a function that starts a worker with this message limit."""

    def start(module: str, size: int) -> Process:
        config = network.config(network={"max_message_size": size})
        process = processes.worker(module, cwd=PROGRAMS, env={"LIGHTBUS_CONFIG": config})
        process.wait_for_line("Ready")
        return process

    return start


def took(process: Process) -> list[str]:
    """Return the events that a listener has handled."""
    return re.findall(r"^took (\d\d)\.$", process.stdout, re.MULTILINE)


@pytest.mark.parametrize("mode", ["host", "bus_key"])
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "replayed"])
def test_one_event_is_too_large(
    network: Network,
    processes: Processes,
    start: Callable[[str, int], Process],
    door: Door,
    mode: str,
    is_live: bool,
) -> None:
    """For a listener with a lower limit it becomes a dead letter, with the reason; all others are handled."""
    network.use(mode)
    start("trouble", LARGE)
    listener = start("takes", SMALL)
    listener.wait_for_line(r"Events of .* arrive")
    if not is_live:
        listener.ask_to_end()
        listener.wait()
    bus = lightbus.create({"network": {"max_message_size": LARGE}}, service_name="fires")
    try:
        for number in range(60):
            size = 500_000 if number == 30 else 50_000
            door.fire(bus.trouble.anything, value=b"%02d" % number + b"x" * size)
        if not is_live:
            listener = start("takes", SMALL)
        everything = {f"{number:02d}" for number in range(60)} - {"30"}
        wait_until(lambda: set(took(listener)) == everything, 30, what="all others are handled")
        listener.wait_for_line(
            f"It takes 500.* this process accepts messages of {SMALL} bytes. Raise network.max_message_size"
        )
        dead = processes.lightbus("dead", "list", "--json")
        assert dead.wait() == 0
        assert "PayloadTooLarge: It takes 500" in dead.stdout
    finally:
        bus.client.close()
