"""What doctor finds out about the processes of a bus."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from helpers.scripted_bus import peer
from lightbus.cli.checks.finding import Finding, Level
from lightbus.cli.checks.processes import check_peers, check_seeds
from lightbus.cli.commands.peers import PeerReport
from lightbus.membership.seeds import FixedPeer

if TYPE_CHECKING:
    from helpers.surroundings import Surroundings

    from ..conftest import Commands

YEAR_2400 = 13_569_465_600.0


def test_empty_bus_is_a_warning_with_what_to_start(commands: Commands) -> None:
    """The warning has where it looked, and what to start."""
    process = commands.run("doctor", "--wait", "0.2", code=1)
    assert "warning peers: no peer is on the bus (bus 'test-" in process.stdout
    assert "Start a worker (lightbus run)" in process.stdout


def test_duplicate_names_and_mixed_versions_are_warned_of(commands: Commands) -> None:
    """Two processes of one name and two versions of one API are warned of, and make the exit code 1."""
    for version in (1, 2):
        worker = commands.serve("auth", "--process-name", "same", version=version, where=f"auth-{version}")
        worker.wait_for_line("Ready")
    findings = {each["check"]: each for each in commands.json("doctor", code=1) if each["level"] == "warning"}
    assert "2 processes are called 'auth same'" in findings["names"]["text"]
    assert "do not serve the same (versions 2, 1; services auth)" in findings["versions"]["text"]
    assert all(finding["remedy"] for finding in findings.values())


def keep_what_is_left(bus: str) -> None:
    """Prevent workers of other tests from removing the files of a killed worker."""
    for path in Path(f"/tmp/lightbus-{os.geteuid()}", bus).iterdir():
        os.utime(path, (YEAR_2400,) * 2)


def test_a_worker_that_was_killed(commands: Commands, surroundings: Surroundings) -> None:
    """Doctor reports a worker that was killed on this host, and lists do not wait for its answer."""
    auth, shop = commands.services()
    keep_what_is_left(surroundings.bus)
    shop.signal(signal.SIGKILL)
    shop.wait()
    [found] = [each for each in commands.json("doctor", code=1) if each["level"] != "ok" and each["check"] == "peers"]
    assert (found["level"], found["text"].split()[0]) == ("warning", "shop")
    assert "has ended without a goodbye" in found["text"]
    assert [each["service"] for each in commands.json("peers")] == ["auth"]
    process = commands.run("lag")  # whoever else runs here takes care of what it kept
    assert "shop" in process.stderr
    assert "has ended without a goodbye" in process.stderr
    auth.signal(signal.SIGKILL)
    auth.wait()
    error = commands.run("lag", code=3).stderr
    assert "No peer is on the bus" in error
    assert error.count("has ended without a goodbye") == 2


def test_a_worker_that_was_stopped(commands: Commands) -> None:
    """It exists and does not answer: doctor says how to identify the process, and what to do."""
    worker = commands.serve("auth")
    worker.wait_for_line("Ready")
    worker.signal(signal.SIGSTOP)
    try:
        [found] = [each for each in commands.json("doctor", code=2) if each["level"] == "error"]
    finally:
        worker.signal(signal.SIGCONT)
    assert "is announced, and does not answer" in found["text"]
    assert "kill -CONT" in found["remedy"]


NAMED = FixedPeer(
    endpoint="tcp://auth.example:1",
    is_name=True,
    addresses=("tcp://10.0.0.1:1", "tcp://10.0.0.2:1"),
    answering=("tcp://10.0.0.2:1",),
    lookups=4,
    failed_lookups=1,
    problem="",
)


@pytest.mark.parametrize(
    ("fixed", "level", "text", "remedy"),
    [
        (
            NAMED,
            Level.OK,
            "answers at 1 of 2 addresses: tcp://10.0.0.2:1 (looked up 4 times, 1 of them without success).",
            "",
        ),
        (
            replace(NAMED, problem="it fails"),
            Level.WARNING,
            "answers at 1 of 2 addresses: tcp://10.0.0.2:1 (looked up 4 times, 1 of them without success; the latest "
            "lookup failed: it fails).",
            "getent ahostsv4 auth.example",
        ),
        (
            replace(NAMED, answering=()),
            Level.ERROR,
            "answers at none of 2 addresses: tcp://10.0.0.1:1, tcp://10.0.0.2:1 (looked up 4 times, 1 of them "
            "without success).",
            "is its port open",
        ),
        (
            replace(NAMED, addresses=(), answering=(), problem="it hangs"),
            Level.ERROR,
            "has no address: it hangs (looked up 4 times, 1 of them without success).",
            "getent ahostsv4 auth.example",
        ),
    ],
)
def test_names_of_fixed_peers(fixed: FixedPeer, level: Level, text: str, remedy: str) -> None:
    """Doctor shows the addresses of a fixed peer's name, which of them answer, and its failed lookups."""

    async def look() -> list[Finding]:
        addressing = SimpleNamespace(remedy=lambda endpoint: "is its port open?")
        node = SimpleNamespace(fixed_peers=lambda: [fixed], addressing=addressing)
        context: Any = SimpleNamespace(bus=SimpleNamespace(client=SimpleNamespace(engine=SimpleNamespace(node=node))))
        return [finding async for finding in check_seeds(context)]

    [found] = asyncio.run(look())
    assert (found.level, found.text) == (level, f"tcp://auth.example:1 {text}")
    assert remedy in (found.remedy or "")


def test_silent_peers_are_reported_together() -> None:
    """Peers with the same problem are in one sentence, with their names; the finding has all their instances."""

    async def look(reports: list[PeerReport]) -> list[Finding]:
        network = SimpleNamespace(places=None)
        bus = SimpleNamespace(client=SimpleNamespace(engine=SimpleNamespace(network=network)), ended=list)
        context: Any = SimpleNamespace(bus=bus, reports=reports, live=[])
        return [finding async for finding in check_peers(context)]

    def silent(number: int, state: str = "suspect") -> PeerReport:
        return PeerReport(peer=peer("auth", instance=f"{number:016x}"), state=state)

    seven = [silent(number) for number in range(7)]
    others = [silent(20, "refused"), silent(21, "draining"), silent(22, "draining")]
    found, draining, refused = sorted(asyncio.run(look([*seven, *others])), key=lambda each: -len(each.about))
    names = ", ".join(str(each.peer.announcement) for each in seven)
    assert found.text == f"7 peers are announced, and do not answer (suspect): {names}."
    assert (found.level, found.about) == (Level.ERROR, {each.peer.instance for each in seven})
    assert (draining.level, draining.text.partition(":")[0]) == (Level.OK, "2 peers are shutting down")
    assert (refused.level, refused.text) == (Level.ERROR, f"{others[0].peer.announcement} refuses us.")
    [many] = asyncio.run(look([silent(number) for number in range(14)]))
    assert many.text.endswith("and 4 more.")
    assert len(many.about) == 14
