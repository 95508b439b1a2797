"""The journals of a process: opened when needed, looked after while it publishes, and free when it has left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers import wait_until_async
from lightbus.config import Config
from lightbus.exceptions import JournalError
from lightbus.io.journal import Group, Journal, NewEvent, Topic
from lightbus.runtime import shelf as module
from lightbus.runtime.context import Identity
from lightbus.runtime.shelf import Care, Shelf

TOPIC = Topic("auth", "seen", 1)


def settings(path: Path, **journal: object) -> Config:
    """Return settings with a data directory."""
    return Config.model_validate({"journal": {"data_dir": str(path), **journal}})


def shelf(path: Path) -> Shelf:
    """Return the journals of a process of the service `auth`."""
    return Shelf(settings(path), Identity(bus="shop", service="auth", process="p", host="h"))


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Shelf]:
    """Return a shelf that is closed with the test."""
    made = shelf(tmp_path)
    yield made
    made.close()


def store(journal: Journal, at: float = 1.0) -> int:
    """Store an event."""
    return journal.append([NewEvent(TOPIC, b"r", at)])[0].sequence


class Owing:
    """A coordinator that notes what it is told; `handled` is how far the one group has come."""

    def __init__(self) -> None:
        self.added: list[Journal] = []
        self.removed: list[Journal] = []
        self.losses: list[tuple[str, Topic, int]] = []
        self.forgotten: list[str] = []
        self.handled = 0
        self.old: list[Group] = []

    def journal_added(self, journal: Journal) -> None:
        self.added.append(journal)

    def journal_removed(self, journal: Journal) -> None:
        self.removed.append(journal)

    def owed(self, journal: Journal, topic: Topic) -> dict[str, int]:
        return {"shop": self.handled}

    def expired(self, now: float, group_expiry: float) -> list[Group]:
        old, self.old = self.old, []
        return old

    def forget(self, api: str, name: str) -> bool:
        self.forgotten.append(name)
        return True

    def lost(self, group: str, topic: Topic, count: int) -> None:
        self.losses.append((group, topic, count))


def caring(
    shelf: Shelf, config: Config, test: Callable[[Owing], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a test while a shelf is looked after, often."""
    for name in ("ADOPT_EVERY", "CHECKPOINT_EVERY", "TRIM_EVERY"):
        monkeypatch.setattr(module, name, 0.01)

    async def main() -> None:
        owing = Owing()
        with ThreadPoolExecutor(1) as executor:
            care = Care(shelf, owing, config, executor)
            try:
                await test(owing)
            finally:
                await care.stop()

    asyncio.run(main())


def test_nothing_is_opened_before_it_is_needed(mine: Shelf, tmp_path: Path) -> None:
    """Making a shelf touches no file; its journal is opened once, and told of."""
    opened: list[Journal] = []
    mine.on_opened = opened.append
    assert (mine.all(), mine.opened, list(tmp_path.iterdir())) == ([], None, [])
    journal = mine.own()
    assert mine.own() is journal
    assert (opened, mine.all(), mine.get(journal.id)) == ([journal], [journal], journal)
    assert mine.get("else") is None
    assert journal.path.parent == tmp_path / "shop" / "auth"


def test_a_new_journal_knows_the_groups(mine: Shelf, tmp_path: Path) -> None:
    """Those of other journals of the service are noted in it before anything else."""
    mine.own().save_group(Group("auth", "shop", ("seen",), 1.0, 2.0, "d"))
    second = shelf(tmp_path)
    assert [group.name for group in second.own().groups()] == ["shop"]
    second.close()


def test_what_is_released_is_opened_again(mine: Shelf) -> None:
    """A worker that stops lets others have its journal, and goes on with it where it is still free."""
    first = mine.own()
    sequence = store(first)
    mine.release()
    assert mine.all() == []
    again = mine.own()
    assert (again.id, again.last(TOPIC)) == (first.id, sequence)


def test_a_closed_shelf_stores_nothing(mine: Shelf) -> None:
    """After the end of the bus it is an error to use it."""
    mine.close()
    with pytest.raises(JournalError, match="The bus was closed"):
        mine.own()
    assert mine.adopt() == []


def test_a_place_that_does_not_stay_is_warned_of(
    mine: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the setting that changes it."""
    monkeypatch.setattr(module, "throw_away", lambda path: "tmpfs")
    mine.own()
    assert "is on tmpfs: they are gone when that is. Set LIGHTBUS_DATA_DIR" in caplog.text


def test_orphans_are_adopted_and_deleted_when_drained(
    mine: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal whose process has ended is served, and goes when everything in it was handled and is old enough."""
    mine.own()
    other = shelf(tmp_path)
    orphan = other.own()
    sequence = store(orphan)
    other.close()

    async def test(owing: Owing) -> None:
        await wait_until_async(lambda: owing.added)
        [adopted] = owing.added
        assert (adopted.id, mine.get(orphan.id)) == (orphan.id, adopted)
        owing.handled = sequence
        await wait_until_async(lambda: owing.removed and not orphan.path.exists())
        assert mine.get(orphan.id) is None

    caring(mine, settings(tmp_path), test, monkeypatch)


def test_what_a_cap_takes_is_told(mine: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a cap the oldest go, and the coordinator is told for whom; groups that were not seen are forgotten."""
    now = time.time()
    for _ in range(10):
        store(mine.own(), now)

    async def test(owing: Owing) -> None:
        owing.old = [Group("auth", "gone", ("seen",), 1.0, 2.0, "d")]
        await wait_until_async(lambda: sum(count for _, _, count in owing.losses) == 7)
        assert {loss[:2] for loss in owing.losses} == {("shop", TOPIC)}
        assert owing.forgotten == ["gone"]

    caring(mine, settings(tmp_path, max_events=3), test, monkeypatch)


def test_what_fails_is_tried_again(
    mine: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the disk, or of our own, is logged, and the care goes on."""
    journal = mine.own()
    failures = [JournalError("the disk hums"), ValueError("odd")]
    done: list[int] = []

    def checkpoint() -> None:
        if failures:
            raise failures.pop(0)
        done.append(1)

    journal.checkpoint = checkpoint  # type: ignore[method-assign]

    async def test(owing: Owing) -> None:
        await wait_until_async(lambda: done)

    caring(mine, settings(tmp_path), test, monkeypatch)
    assert "the disk hums" in caplog.text
    assert "Looking after the journals failed; it is tried again" in caplog.text
