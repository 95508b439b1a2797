"""The contract of discovery: every implementation passes it, also users' own."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from helpers import wait_until_async
from helpers.discovering import announcement, listening
from helpers.own import examine, made_by
from helpers.surroundings import Surroundings
from lightbus.adapters.host.nearby import NearbyDiscovery
from lightbus.adapters.host.places import Places
from lightbus.adapters.mdns.discovery import ZeroconfDiscovery
from lightbus.adapters.memory.discovery import MemoryDiscovery, MemoryHub, NoDiscovery
from lightbus.ports.discovery import Discovery
from lightbus.wire.announcement import Announcement

Make: TypeAlias = Callable[[str], Discovery]


class Neighbour(NearbyDiscovery):
    """Discovery through directories, of a process whose socket exists as soon as it announces itself."""

    def __init__(self, bus: str, directory: Path) -> None:
        self.places = Places(bus, [directory])
        super().__init__(bus, self.places)

    async def announce(self, announcement: Announcement) -> None:
        """Make the file of a socket, and announce it."""
        for place in self.places.candidates():
            self.places.make(place)
            (place / f"{announcement.instance}.rpc").touch()
        await super().announce(announcement)


DOCUMENT = Path(__file__).parents[2] / "docs" / "ports.md"


def documented() -> Any:
    """Return the discovery in the document: by files, as a user would write it."""
    [program] = [
        code for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "FileDisc" in code
    ]
    names: dict[str, Any] = {}
    exec(program.partition("class ClockApi")[0], names)
    return names["FileDiscovery"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests for all implementations, or the named one."""
    hear = ["memory", "zeroconf", "directories", "documented"]
    examine(metafunc, "make", hear)
    examine(metafunc, "make_any", [*hear, "none"])


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that makes connected discoveries. A user's own gets an empty directory."""
    yield from made(request, tmp_path, monkeypatch)


@pytest.fixture
def make_any(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that makes discoveries, also ones that find no peer."""
    yield from made(request, tmp_path, monkeypatch)


def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    if request.param == "memory":
        hub = MemoryHub()
        yield lambda bus: MemoryDiscovery(bus, hub)
    elif request.param == "directories":
        with tempfile.TemporaryDirectory() as directory:  # a short path: socket paths have a maximum length
            yield lambda bus: Neighbour(bus, Path(directory))
    elif request.param == "documented":
        with tempfile.TemporaryDirectory() as directory:
            yield lambda bus: documented()(bus, directory)
    elif request.param == "zeroconf":
        yield ZeroconfDiscovery
    elif request.param == "none":
        yield lambda bus: NoDiscovery()
    else:
        monkeypatch.chdir(tmp_path)
        yield made_by(request.param)


@pytest.fixture
def bus(surroundings: Surroundings) -> str:
    """Return a bus name that nobody else on this host uses."""
    return surroundings.bus


def test_peers_are_found_in_any_order_of_starting(make: Make, bus: str) -> None:
    """Earlier and later peers are both reported."""

    async def scenario() -> None:
        early, late = announcement(bus), announcement(bus)
        first, second = make(bus), make(bus)
        async with listening(first) as first_ears:
            await first.announce(early)
            async with listening(second) as second_ears:
                await second_ears.hear(early)
                await second.announce(late)
                await first_ears.hear(late)
                assert [first.problem, second.problem] == [None, None]

    asyncio.run(scenario())


def test_own_announcement_is_not_reported(make: Make, bus: str) -> None:
    """A peer does not find itself."""

    async def scenario() -> None:
        own, other = announcement(bus), announcement(bus)
        first, second = make(bus), make(bus)
        async with listening(first) as ears, listening(second):
            await first.announce(own)
            await second.announce(other)
            await ears.hear(other)

    asyncio.run(scenario())


def test_other_bus_is_not_reported(make: Make, bus: str) -> None:
    """Buses of different names do not see each other."""

    async def scenario() -> None:
        stranger, friend = make(f"{bus}-other"), make(bus)
        ours = announcement(bus)
        async with listening(make(bus)) as ears, listening(stranger), listening(friend):
            await stranger.announce(announcement(f"{bus}-other"))
            await friend.announce(ours)
            await ears.hear(ours)

    asyncio.run(scenario())


def test_changed_announcement_is_reported(make: Make, bus: str) -> None:
    """Whether an unchanged one is reported again is left open."""

    async def scenario() -> None:
        before = announcement(bus)
        after = replace(before, api_names=("auth", "customers"))
        peer = make(bus)
        async with listening(make(bus)) as ears, listening(peer):
            await peer.announce(before)
            await ears.hear(before)
            await peer.announce(after)
            await ears.hear(before, after)

    asyncio.run(scenario())


def test_goodbye_is_reported(make: Make, bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A peer that withdraws, or stops, is lost to the others; it can announce itself again.

    By multicast it may come back for a moment: zeroconf delays answers to questions by up to 120 ms, and sends one that
    waits also after the goodbye, which is repeated.
    """
    # With much multicast a socket's buffer is sometimes full: so send three goodbyes here, as on a LAN, however long it
    # takes on a busy machine.
    monkeypatch.setattr("lightbus.adapters.mdns.discovery.LOOPBACK", "")
    monkeypatch.setattr("lightbus.adapters.mdns.discovery.GOODBYE_TIME", 60.0)

    async def scenario() -> None:
        announced = announcement(bus)
        peer = make(bus)
        async with listening(make(bus)) as ears:
            async with listening(peer):
                await peer.withdraw()  # nothing to withdraw yet
                await peer.announce(announced)
                await ears.hear(announced)
                await peer.withdraw()
                await peer.withdraw()
                await wait_until_async(lambda: 0 < len(ears.lost) == len(ears.found))
                await peer.announce(announced)
                await wait_until_async(lambda: 1 < len(ears.found) > len(ears.lost))
            await wait_until_async(lambda: 1 < len(ears.lost) == len(ears.found))
            assert {*ears.lost} == {announced.instance}
            assert all(each == announced for each in ears.found)
            assert make is ZeroconfDiscovery or len(ears.lost) == 2

    asyncio.run(scenario())


def test_nothing_is_reported_after_stop(make: Make, bus: str) -> None:
    """Also if `stop` is called twice."""

    async def scenario() -> None:
        announced = announcement(bus)
        peer, stopped, witness = make(bus), make(bus), make(bus)
        async with listening(peer), listening(witness) as witness_ears:
            async with listening(stopped) as ears:
                await stopped.stop()
            await peer.announce(announced)
            await witness_ears.hear(announced)
            assert ears.found == []

    asyncio.run(scenario())


def test_failing_callback_does_not_stop_discovery(make: Make, bus: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged, and the next peer is reported."""

    async def scenario() -> None:
        first, second = announcement(bus), announcement(bus)
        told: list[Announcement] = []

        def found(peer: Announcement) -> None:
            told.append(peer)
            if peer == first:
                raise ValueError("no room")

        listener, peers = make(bus), [make(bus), make(bus)]
        await listener.start(found, lambda instance: None)
        async with listening(peers[0]), listening(peers[1]):
            await peers[0].announce(first)
            await peers[1].announce(second)
            await wait_until_async(lambda: len(told) == 2)
        await listener.stop()

    asyncio.run(scenario())
    assert "a callback of discovery failed for auth-service" in caplog.text


def test_single_peer_reports_nothing(make_any: Make, bus: str) -> None:
    """Announcing, moving, looking, withdrawing and stopping, each twice, neither report anything nor fail."""

    async def scenario() -> None:
        own = announcement(bus)
        discovery = make_any(bus)
        async with listening(discovery) as ears:
            for _ in range(2):
                await discovery.announce(own)
                await discovery.move(["127.0.0.1"], own)
                discovery.look()
            await discovery.move(["127.0.0.1"], None)
            for _ in range(2):
                await discovery.withdraw()
            await discovery.stop()
        assert (ears.found, ears.lost, discovery.problem) == ([], [], None)

    asyncio.run(scenario())


def test_describe_names_the_way_of_looking(make_any: Make, bus: str) -> None:
    """For log lines, at any time; and `foreign_peers` lists none here."""

    async def scenario() -> None:
        discovery = make_any(bus)
        assert discovery.describe()
        assert discovery.foreign_peers("auth") == []
        async with listening(discovery):
            await discovery.announce(announcement(bus))
            assert discovery.describe()
            assert discovery.foreign_peers("auth") == []
        assert discovery.describe()
        assert discovery.foreign_peers("auth") == []

    asyncio.run(scenario())
