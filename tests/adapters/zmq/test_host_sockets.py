"""The sockets of a worker in mode host: in every usable directory, and bound again after they were removed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from helpers.surroundings import Surroundings
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq import host_sockets as module
from lightbus.adapters.zmq.host_sockets import HostSockets
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.exceptions import InvalidConfiguration, TransportError

INSTANCE = "4f2a00112233445d"


class Worker:
    """The sockets of a worker, with a clock and directories that the test controls."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.now = 100.0
        self.heard: list[bytes] = []
        self.transport = ZmqTransport(HostSecurity(places=places))
        self.router = self.transport.router(lambda routing_id, frame: self.heard.append(frame))
        self.xpub = self.transport.publisher(lambda topic, subscribed: None)
        self.sockets = HostSockets(INSTANCE, places, self.router, self.xpub)

    def look(self) -> bool:
        """Run all due checks."""
        self.now += module.TRY_EVERY
        return self.sockets.look(self.now)

    async def is_reached_at(self, place: Path) -> bool:
        """Return whether a message to one of our files arrives."""
        before = len(self.heard)
        dealer = self.transport.dealer(f"ipc://{place}/{INSTANCE}.rpc", lambda frame: None)
        dealer.send_later(b"hello")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if len(self.heard) > before:
                break
        dealer.close()
        return len(self.heard) > before

    def close(self) -> None:
        self.sockets.close()
        self.router.close()
        self.xpub.close()
        self.transport.close()


@pytest.fixture
def one(surroundings: Surroundings) -> Path:
    """Return a directory for sockets, with a path short enough for them."""
    (surroundings.runtime / "one").mkdir()
    return surroundings.runtime / "one"


@pytest.fixture
def two(surroundings: Surroundings) -> Path:
    """Return another."""
    (surroundings.runtime / "two").mkdir()
    return surroundings.runtime / "two"


def run(scenario: Callable[[Worker], Awaitable[None]], *bases: Path, last_resort: Path | None = None) -> None:
    """Run a scenario with a worker that uses these base directories."""

    async def main() -> None:
        worker = Worker(Places("b", [base / "lightbus" for base in bases], last_resort))
        try:
            await asyncio.wait_for(scenario(worker), 60)
        finally:
            worker.close()

    asyncio.run(main())


def test_worker_is_reached_in_every_directory(one: Path, two: Path) -> None:
    """At its file in each directory; at the end no file is left."""

    async def scenario(worker: Worker) -> None:
        worker.sockets.open()
        for place in worker.places.candidates():
            assert await worker.is_reached_at(place)
        assert worker.sockets.endpoints.rpc == f"ipc://{one}/lightbus/b/{INSTANCE}.rpc"
        assert not worker.look()

    run(scenario, one, two)
    assert [path for base in (one, two) for path in base.rglob(f"{INSTANCE}*")] == []


@pytest.mark.parametrize("what", ["sockets", "directory", "all"])
def test_removed_sockets_are_bound_again(one: Path, two: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whether the files, their directory or more were removed: they are there again, and it is logged once."""

    async def scenario(worker: Worker) -> None:
        worker.sockets.open()
        place = worker.places.candidates()[0]
        if what == "sockets":
            for file in place.iterdir():
                file.unlink()
        else:
            shutil.rmtree(place if what == "directory" else place.parent)
        assert worker.look()
        assert await worker.is_reached_at(place)
        assert not worker.look()
        assert [each.message for each in caplog.records if "removed by another program" in each.message] == [
            f"The sockets of this worker in {place} were removed by another program, and are created again"
        ]

    run(scenario, one, two)


def test_directory_removed_by_a_logout_comes_back(one: Path, two: Path) -> None:
    """Until the next login the worker uses the other directory, and announces it."""

    async def scenario(worker: Worker) -> None:
        worker.sockets.open()
        first, second = worker.places.candidates()
        shutil.rmtree(one)
        assert worker.look()
        assert worker.sockets.endpoints.directory == str(second)
        assert not worker.look()
        one.mkdir()
        assert worker.look()
        assert worker.sockets.endpoints.directory == str(first)
        assert await worker.is_reached_at(first)

    run(scenario, one, two)


def test_only_directory_is_tried_again(one: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without another directory the worker logs once that no new caller can reach it, and keeps trying."""

    async def scenario(worker: Worker) -> None:
        worker.sockets.open()
        (place,) = worker.places.candidates()
        shutil.rmtree(one)
        assert [worker.look() for _ in range(5)] == [False] * 5
        assert sum("no new caller can reach it" in each.message for each in caplog.records) == 1
        one.mkdir()
        assert worker.look()
        assert await worker.is_reached_at(place)

    run(scenario, one)


def test_last_resort_is_used_only_if_needed(one: Path, two: Path) -> None:
    """It is used if no other directory can be."""

    async def with_another(worker: Worker) -> None:
        worker.sockets.open()
        worker.look()
        assert not (two / "lightbus").exists()

    async def alone(worker: Worker) -> None:
        worker.sockets.open()
        assert await worker.is_reached_at(two / "lightbus" / "b")

    run(with_another, one, last_resort=two / "lightbus")
    run(alone, one / "missing", last_resort=two / "lightbus")


def test_without_any_directory_the_error_lists_all(one: Path) -> None:
    """One line lists the attempts, and names the setting."""

    async def scenario(worker: Worker) -> None:
        with pytest.raises(InvalidConfiguration, match=r"no directory for the sockets.*missing.*set XDG_RUNTIME_DIR"):
            worker.sockets.open()

    run(scenario, one / "missing")


def test_repeatedly_removed_sockets_are_given_up(one: Path, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time costs descriptors: a directory that is emptied repeatedly is given up, if there is another."""
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 3)

    async def scenario(worker: Worker) -> None:
        worker.sockets.open()
        for _ in range(6):
            shutil.rmtree(one / "lightbus", ignore_errors=True)
            worker.look()
        assert not (one / "lightbus").exists()
        assert Path(worker.sockets.endpoints.directory).is_relative_to(two)

    run(scenario, one, two)


@pytest.mark.parametrize(("removed", "said"), [(1, "It is tried again"), (4, "It is not tried again: restart it")])
def test_log_says_whether_it_is_tried_again(
    one: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, removed: int, said: str
) -> None:
    """The only directory is tried again until its files were removed too often."""
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 3)

    async def scenario(worker: Worker) -> None:
        worker.sockets.open()
        for number in range(removed):
            shutil.rmtree(one / "lightbus", ignore_errors=True)
            if number == 0 and removed == 1:
                monkeypatch.setattr(worker.places, "make", lambda place: fail(place))
            worker.look()
        assert f"no new caller can reach it. {said}; " in caplog.text

    def fail(place: Path) -> None:
        raise InvalidConfiguration(f"{place} cannot be made")

    run(scenario, one)


def test_directory_removed_during_the_start(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ending worker may remove the empty directory in which another is about to bind: it is created again."""

    async def scenario(worker: Worker) -> None:
        bind, failed = worker.router.bind, []

        def fail_once(endpoint: str) -> str:
            if not failed:
                failed.append(endpoint)
                raise TransportError("gone")
            return bind(endpoint)

        monkeypatch.setattr(worker.router, "bind", fail_once)
        worker.sockets.open()
        assert await worker.is_reached_at(worker.places.candidates()[0])

    run(scenario, one)


def test_too_long_path_is_reported(one: Path) -> None:
    """A configured directory that cannot be used is not skipped silently."""

    async def scenario(worker: Worker) -> None:
        with pytest.raises(InvalidConfiguration, match=r"/d{80}/lightbus is too long a path"):
            worker.sockets.open()

    run(scenario, one / ("d" * 80))
