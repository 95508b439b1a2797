"""Journals and outbox events left by ended processes of other services: which worker serves them, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.journal_directory import JournalDirectory
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.adapters.sqlite.topic import Topic
from lightbus.config import Config
from lightbus.events.publishing import orphaned_journals as module
from lightbus.events.publishing.journal_set import JournalSet
from lightbus.events.publishing.orphaned_journals import OrphanedJournals
from lightbus.membership.context import Identity

TOPIC = Topic("news", "printed", 3)
READER = KnownGroup("news", "reader", ("printed",), 1.0, 2.0, "d")


class Serves:
    """Records the served journals; those in `unhandled` have unhandled events."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.grown: list[str] = []
        self.unhandled = True

    def journal_added(self, journal: Journal) -> None:
        self.served.append(journal.id)

    def journal_removed(self, journal: Journal) -> None:
        self.served.remove(journal.id)

    def journal_grew(self, journal: Journal) -> None:
        self.grown.append(journal.id)

    def has_unhandled(self, journal: Journal) -> bool:
        return self.unhandled


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class World:
    """One worker of the service `shop`, and the other services."""

    def __init__(self, tmp_path: Path) -> None:
        config = Config.model_validate({"journal": {"data_dir": tmp_path}})
        self.journals = JournalSet(config, Identity(bus="b", service="shop", process="p", instance="a" * 16, host="h"))
        self.path = tmp_path / "b"
        self.here: set[str] = {"shop"}
        self.published: set[str] = set()
        self.serves = Serves()
        self.changes: list[Any] = []
        self.left = OrphanedJournals(
            self.journals,
            self.serves,
            HostOutbox(self.path),
            services=lambda: self.here,
            published=lambda: self.published,
            on_changed=lambda: self.changes.append(self.left.apis()),
        )

    async def look(self) -> None:
        await self.left.look(asyncio.to_thread)

    def leave(self, service: str = "news", *, is_stored: bool = True) -> None:
        """Leave a journal behind, as an ended process of a service does."""
        journal = JournalDirectory(self.path / service, host="h").open_own()
        journal.groups.save(READER)
        if is_stored:
            journal.append([NewEvent(TOPIC, b"r", 1.0)])
        journal.close()

    def put(self, id: str, *, service: str = "news", key: str | None = None) -> None:
        """Put an event into the outbox."""
        HostOutbox(self.path).put(id=id, api="news", event="printed", key=key, record=id.encode(), service=service)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world without waiting times."""
    monkeypatch.setattr(module, "FIRST_LOOK", 0.0)
    monkeypatch.setattr(module, "WAIT", 0.0)
    return World(tmp_path)


def run(world: World, test: Callable[[], Awaitable[None]]) -> None:
    """Run a test, and close what it opened."""
    try:
        asyncio.run(test())  # type: ignore[arg-type]
    finally:
        world.journals.close()


def test_a_journal_is_served_until_its_own_service_runs(world: World) -> None:
    """An unheld journal with events; it is given back once all are handled, and is never deleted."""
    world.leave()
    world.leave("empty", is_stored=False)
    world.leave("shop")

    async def test() -> None:
        await world.look()
        [journal] = world.journals.others()
        assert world.serves.served == [journal.id]
        assert world.changes == [{"news": ("printed",)}]
        world.here.add("news")
        await world.look()
        assert world.serves.served == [journal.id]
        world.serves.unhandled = False
        await world.look()
        assert (world.serves.served, world.journals.others()) == ([], [])
        assert world.changes == [{"news": ("printed",)}, {}]
        [own] = JournalDirectory(world.path / "news", host="h").adopt()
        assert own.id == journal.id
        own.close()

    run(world, test)


def test_a_restarted_process_finds_its_journal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that has just left had stored, in a journal or in the outbox, waits for its service."""
    world.leave()
    world.put("a")
    world.left.process_left("news")

    async def test() -> None:
        await world.look()
        assert world.serves.served == []
        assert HostOutbox(world.path).counts() == {"news": 1}
        monkeypatch.setattr(module, "RESTART", 0.0)
        await world.look()
        assert len(world.serves.served) == 1
        assert HostOutbox(world.path).counts() == {}

    run(world, test)


def test_services_that_start_with_this_one_find_their_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start of the host, nothing that was left is taken for as long as after the end of a process."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    world = World(tmp_path)
    world.leave()
    world.put("a")

    async def test() -> None:
        clock.now += module.RESTART - 0.1
        await world.look()
        assert world.serves.served == []
        assert HostOutbox(world.path).counts() == {"news": 1}
        clock.now += 0.1
        await world.look()
        assert len(world.serves.served) == 1

    run(world, test)


def test_a_drained_journal_of_another_service_stays(world: World) -> None:
    """It may be the only one that knows the groups of its service."""
    world.leave()

    async def test() -> None:
        await world.look()
        [journal] = world.journals.others()
        world.journals.drop(journal)
        assert (journal.path.exists(), world.journals.others()) == (True, [])

    run(world, test)


def test_the_outbox_is_emptied_into_a_journal_of_the_service(world: World) -> None:
    """In order, each event once even after a kill, and with the groups that the service knows."""
    world.leave(is_stored=False)
    for id, key in (("a", "k"), ("b", "k"), ("c", None), ("a", "k")):
        world.put(id, key=key)
    world.put("x", service="")

    async def test() -> None:
        await world.look()
        [journal] = world.journals.others()
        assert journal.path.parent.name == "news"
        assert journal.groups.all() == [READER]
        assert (world.serves.served, world.serves.grown) == ([journal.id], [journal.id])
        assert HostOutbox(world.path).counts() == {}
        found = journal.history.latest("news", "printed")
        assert sorted(entry.record for _, entry in found) == [b"a", b"b", b"c", b"x"]
        assert len({topic for topic, entry in found if entry.record in (b"a", b"b")}) == 1
        world.put("a", key="k")
        world.put("d")
        await world.look()
        assert len(journal.history.latest("news", "printed")) == 5
        assert world.serves.served == [journal.id]

    run(world, test)


def test_an_event_is_put_into_the_outbox_while_it_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found the next time, although the outbox was empty."""
    world.put("first")
    HostOutbox(world.path).delivered(["first"])
    read = HostOutbox.services

    def read_and_put(outbox: HostOutbox) -> dict[str, str]:
        found = read(outbox)
        world.put("late")
        return found

    async def test() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(HostOutbox, "services", read_and_put)
            await world.look()
        assert HostOutbox(world.path).counts() == {"news": 1}
        await world.look()
        assert HostOutbox(world.path).counts() == {}

    run(world, test)


@pytest.mark.parametrize("who", ["its service is here", "its API is published", "its service is unknown", "it is new"])
def test_events_that_their_own_service_may_publish_wait(
    world: World, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not taken out of order: a running process publishes the events that it stored itself."""
    world.put("a", service="" if who == "its service is unknown" else "news")
    if who == "its service is here":
        world.here.add("news")
    elif who == "its API is published":
        world.published.add("news")
    elif who == "it is new":
        monkeypatch.setattr(module, "WAIT", 3600.0)

    async def test() -> None:
        for _ in range(2):
            await world.look()
        assert HostOutbox(world.path).counts() == {"news": 1}
        assert world.serves.served == []

    run(world, test)
