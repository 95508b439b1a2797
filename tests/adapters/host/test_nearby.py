"""Discovery through directories: announcements are written beside the sockets, and read."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.adapters.host import nearby
from lightbus.adapters.host.nearby import HostDiscovery, NearbyDiscovery, written_announcements
from lightbus.adapters.host.places import PEER, Places
from lightbus.adapters.memory.discovery import NoDiscovery
from lightbus.core.beats import next_beat
from lightbus.ports.discovery import Discovery, Found, Lost
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo


def announcement(number: int, *apis: str, bus: str = "demo") -> Announcement:
    """Return the announcement of a worker."""
    return Announcement(
        bus=bus, instance=f"{number:016x}", service="auth", process="p", host="here",
        apis=tuple(ApiInfo(name=api) for api in apis),
    )  # fmt: skip


class Side:
    """One process: its discovery, and the reports of it."""

    def __init__(self, *directories: Path) -> None:
        self.places = Places("demo", [directory.parent for directory in directories])
        self.discovery = NearbyDiscovery("demo", self.places)
        self.found: list[Announcement] = []
        self.lost: list[str] = []

    async def start(self) -> None:
        await self.discovery.start(self.found.append, self.lost.append)

    async def bind(self, said: Announcement) -> None:
        """Bind sockets in each of the directories, as a worker does, and announce them."""
        for place in self.places.candidates():
            self.places.make(place)
            (place / f"{said.instance}.rpc").touch()
        await self.discovery.announce(said)


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """Return two directories of the bus `demo`, which do not exist yet."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    return [tmp_path / "one" / "demo", tmp_path / "two" / "demo"]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it on its own loop."""

    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 60)

    asyncio.run(bounded())


@pytest.mark.parametrize("first", ["worker", "caller"])
def test_workers_find_each_other(places: list[Path], first: str) -> None:
    """A worker is found at once by later ones, and soon by earlier ones; once, with all of its APIs."""

    async def scenario() -> None:
        worker, caller, said = Side(*places), Side(*places), announcement(1, "auth", "shop")
        if first == "caller":
            await caller.start()
        await worker.start()
        await worker.bind(said)
        if first == "worker":
            await caller.start()
            assert len(caller.found) == 1
        await wait_until_async(lambda: caller.found)
        assert [(each.instance, each.api_names) for each in caller.found] == [(said.instance, ("auth", "shop"))]
        assert worker.found == []
        for side in (worker, caller):
            await side.discovery.stop()
        assert [file for place in places for file in place.glob("*.peer")] == []

    run(scenario)


def test_idle_workers_check_rarely(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty idle workers wake a host as little as possible; a lookup makes them check often again."""
    monkeypatch.setattr(nearby, "QUIET_AFTER", 3)
    monkeypatch.setattr(nearby, "LOOK_EVERY", 0.001)

    async def scenario() -> None:
        caller, pauses = Side(*places), list[float]()

        def noted(now: float, seconds: float) -> float:
            pauses.append(seconds)
            return next_beat(now, seconds)

        monkeypatch.setattr(nearby, "next_beat", noted)
        await caller.start()
        await wait_until_async(lambda: len(pauses) >= 6)
        assert pauses[:6] == [0.001] * 3 + [0.005] * 3
        del pauses[:]
        caller.discovery.look()
        assert pauses == [0.001]
        await wait_until_async(lambda: pauses[-1] == 0.005)
        del pauses[:]
        await Side(*places).bind(announcement(1, "auth"))
        await wait_until_async(lambda: caller.found)
        await wait_until_async(lambda: 0.001 in pauses)
        await caller.discovery.stop()

    run(scenario)


def test_one_common_directory_is_enough(places: list[Path], tmp_path: Path) -> None:
    """Processes that differ in the others find each other."""

    async def scenario() -> None:
        worker, caller = Side(*places), Side(tmp_path / "three" / "demo", places[1])
        await worker.bind(announcement(1, "auth"))
        await caller.start()
        assert [each.instance for each in caller.found] == [announcement(1).instance]
        for side in (worker, caller):
            await side.discovery.stop()

    run(scenario)


def test_changes_are_reported(places: list[Path]) -> None:
    """New APIs, and the end of a peer; a removed directory ends no peer that is found in another."""

    async def scenario() -> None:
        worker, caller = Side(*places), Side(*places)
        await caller.start()
        await worker.bind(announcement(1, "auth"))
        await wait_until_async(lambda: caller.found)
        await worker.discovery.announce(announcement(1, "auth", "shop"))
        await wait_until_async(lambda: caller.found[-1].api_names == ("auth", "shop"))
        for file in [*places[0].iterdir()]:
            file.unlink()
        places[0].rmdir()
        await worker.discovery.announce(announcement(1, "shop"))
        await wait_until_async(lambda: caller.found[-1].api_names == ("shop",))
        assert caller.lost == []
        await worker.discovery.withdraw()
        await wait_until_async(lambda: caller.lost == [announcement(1).instance])
        await caller.discovery.stop()

    run(scenario)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "malformed"),
        ("{", "malformed"),
        ("[" * 3000, "malformed"),
        ("[]", "malformed"),
        ('{"v": "x"}', "malformed"),
        ("\x00\xff", "malformed"),
    ],
)
def test_unreadable_file_is_counted(places: list[Path], text: str, complaint: str) -> None:
    """It is ignored, and does not prevent reading others."""

    async def scenario() -> None:
        caller = Side(places[0])
        caller.places.make(places[0])
        (places[0] / "x.rpc").touch()
        (places[0] / "x.peer").write_text(text)
        await caller.start()
        assert caller.found == []
        assert caller.discovery._table.ignored["malformed"] == 1
        await caller.discovery.stop()

    run(scenario)


@pytest.mark.parametrize("why", ["another bus", "another name", "no socket", "open to others"])
def test_invalid_announcements_are_ignored(places: list[Path], why: str) -> None:
    """Of another bus, with another name than its file, without a socket, or in a directory open to other users."""

    async def scenario() -> None:
        caller, said = Side(places[0]), announcement(1, "auth", bus="other" if why == "another bus" else "demo")
        caller.places.make(places[0])
        name = "2" * 16 if why == "another name" else said.instance
        (places[0] / f"{name}.peer").write_text(json.dumps(said.to_wire()))
        if why != "no socket":
            (places[0] / f"{name}.rpc").touch()
        if why == "open to others":
            places[0].chmod(0o770)
        await caller.start()
        assert caller.found == []
        await caller.discovery.stop()

    run(scenario)


def test_a_change_within_one_tick_is_seen(places: list[Path]) -> None:
    """A change that leaves the directory's time unchanged is found by a later check."""

    async def scenario() -> None:
        worker, caller = Side(places[0]), Side(places[0])
        caller.places.make(places[0])
        await caller.start()
        before = os.stat(places[0])
        await worker.bind(announcement(1, "auth"))
        os.utime(places[0], ns=(before.st_atime_ns, before.st_mtime_ns))
        await wait_until_async(lambda: caller.found)
        for side in (worker, caller):
            await side.discovery.stop()

    run(scenario)


@pytest.mark.parametrize("what", ["scandir", "open"])
def test_peers_stay_known_without_a_free_descriptor(
    places: list[Path], what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a process cannot open files, known peers stay; new ones are found afterwards."""

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def scenario() -> None:
        first, second, caller = Side(places[0]), Side(places[0]), Side(places[0])
        await first.bind(announcement(1, "auth"))
        await caller.start()
        await second.bind(announcement(2, "auth"))
        with monkeypatch.context() as patch:
            patch.setattr(*((os, "scandir") if what == "scandir" else (Path, "open")), full)
            for _ in range(3):
                caller.discovery.look()
            assert (len(caller.found), caller.lost) == (1, [])
        await wait_until_async(lambda: len(caller.found) == 2)
        await first.discovery.withdraw()
        await wait_until_async(lambda: caller.lost)
        for side in (first, second, caller):
            await side.discovery.stop()

    run(scenario)
    assert not caplog.records


@pytest.mark.parametrize("why", ["cleaned", "full"])
def test_own_announcement_is_written_again(places: list[Path], monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """After a cleaner of old files removed it, or once the disk has room again; not after it was withdrawn."""
    monkeypatch.setattr(nearby, "READ_EVERY", 2)
    path = places[0] / f"{announcement(1).instance}{PEER}"

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario() -> None:
        worker, caller = Side(places[0]), Side(places[0])
        await worker.start()
        with monkeypatch.context() as patch:
            if why == "full":
                patch.setattr(nearby, "_write", full)
            await worker.bind(announcement(1, "auth"))
            assert path.exists() is (why == "cleaned")
        path.unlink(missing_ok=True)
        await wait_until_async(path.exists)
        await caller.start()
        await wait_until_async(lambda: caller.found)
        await worker.discovery.withdraw()
        worker.discovery._look()
        worker.discovery._look()
        assert not path.exists()
        for side in (worker, caller):
            await side.discovery.stop()

    run(scenario)


def test_peer_that_leaves_while_the_directory_is_read(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this peer is lost, and not the others in the directory."""
    scandir = os.scandir

    def slow(path: Path) -> Any:
        found = [*scandir(path)]
        leaving = path / f"{announcement(1).instance}{PEER}"
        leaving.unlink(missing_ok=True)
        return contextlib.nullcontext(found)

    async def scenario() -> None:
        first, second, caller = Side(places[0]), Side(places[0]), Side(places[0])
        for number, side in enumerate((first, second), 1):
            await side.bind(announcement(number, "auth"))
        await caller.start()
        assert len(caller.found) == 2
        (places[0] / "another").touch()  # so that the directory is read again
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", slow)
            await wait_until_async(lambda: caller.lost)
        assert caller.lost == [announcement(1).instance]
        for side in (first, second, caller):
            await side.discovery.stop()

    run(scenario)


class FakeMulticast(NoDiscovery):
    """Records its calls."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self, found: Found, lost: Lost) -> None:
        self.asked.append("start")

    async def announce(self, announcement: Announcement) -> None:
        self.asked.append("announce")

    async def stop(self) -> None:
        self.asked.append("stop")


def test_multicast_starts_later_and_makes_earlier_announcements(places: list[Path]) -> None:
    """In mode host multicast starts a moment later, and sends earlier announcements; it ends with the rest."""

    async def scenario() -> None:
        side, multicast = Side(*places), FakeMulticast()
        discovery: Discovery = HostDiscovery(side.discovery, lambda: multicast)
        await discovery.start(side.found.append, side.lost.append)
        assert multicast.asked == []
        await side.bind(announcement(1))
        await discovery.announce(announcement(1))
        await wait_until_async(lambda: multicast.asked == ["start", "announce"])
        await discovery.stop()
        assert multicast.asked == ["start", "announce", "stop"]
        assert discovery.problem is None

    run(scenario)


def test_multicast_starts_with_a_delay(places: list[Path]) -> None:
    """A process that ends before need not load it."""

    async def scenario() -> None:
        made: list[Discovery] = []
        side = Side(*places)
        discovery = HostDiscovery(side.discovery, lambda: made.append(NoDiscovery()) or made[0])  # type: ignore[func-returns-value]
        await discovery.start(side.found.append, side.lost.append)
        await discovery.stop()
        assert made == []

    run(scenario)


def test_written_announcements_are_read_once(places: list[Path]) -> None:
    """Each process of the bus once, in however many directories it is; unreadable files are left out."""

    async def scenario() -> None:
        worker, other = Side(*places), Side(*places)
        await worker.bind(announcement(1))
        await other.bind(announcement(2, bus="another"))
        for name in (3, 4):
            (places[0] / f"{name:016x}.peer").write_text("{")
        (places[0] / f"{3:016x}.rpc").touch()
        assert [each.instance for each in written_announcements("demo", worker.places)] == [f"{1:016x}"]

    run(scenario)
    for place in places:
        place.chmod(0o755)
    assert written_announcements("demo", Side(*places).places) == []  # others can write there
