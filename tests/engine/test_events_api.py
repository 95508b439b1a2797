"""`internal.events`: answers of a publisher about stored events are bounded, and can be read in full."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from helpers.publishing import Hub
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.engine import events_api as module
from lightbus.engine.events_api import EventsApi
from lightbus.events.kept_events import id_of
from lightbus.ports.events import GroupSummary
from lightbus.service.api import Api, Event
from lightbus.wire import envelope
from lightbus.wire.envelope import Record

TOPIC = Topic("auth", "seen", 1)


class Auth(Api):
    seen = Event(["text"])

    class Meta:
        name = "auth"


@pytest.mark.parametrize(("size", "most"), [(10, 1000), (400, 2), (5000, 1)])
def test_dead_letters_are_returned_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, most: int
) -> None:
    """However large they are together, each is returned, and no answer is larger than one event requires."""
    monkeypatch.setattr(module, "MAX_HISTORY_BYTES", 1000)

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        journal = publisher.journals.own()
        for n in range(5):
            record = envelope.encode_record(Record(f"id-{n}", 1, 1.0, {"text": "x" * size}))
            [stored] = journal.append([NewEvent(TOPIC, record, 1.0)])
            journal.dead_letters.add("shop", TOPIC, stored.sequence, 5, "no luck", float(n))
        api = EventsApi(publisher.coordinator, max_events=10, max_bytes=10)
        found: list[str] = []
        while answer := await api.dead("shop", len(found)):
            assert len(answer) <= most
            found += [each["id"] for each in answer]
        assert found == [f"id-{n}" for n in range(5)]
        assert await api.dead("else") == []
        publisher.close()

    asyncio.run(main())


def test_many_dead_letters_are_retried_at_once(tmp_path: Path) -> None:
    """The existing ones, each once, in one commit; when requested again, they are not there any more."""

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        journal = publisher.journals.own()
        records = [envelope.encode_record(Record(f"id-{n}", 1, 1.0, {"text": "x"})) for n in range(1500)]
        stored = journal.append([NewEvent(TOPIC, record, 1.0) for record in records])
        for each in stored:
            journal.dead_letters.add("shop", TOPIC, each.sequence, 5, "no luck", 1.0)
        publisher.coordinator.directory.merge(KnownGroup("auth", "shop", ("seen",), 1.0, 2.0, "d"))
        api = EventsApi(publisher.coordinator, max_events=10, max_bytes=10)
        ids = [f"{journal.id}-{each.sequence}" for each in stored]
        assert await api.retry_dead_events("shop", [*ids[:700], f"{journal.id}-7", f"{'f' * 16}-1"]) == ids[:700]
        assert await api.retry_dead_events("shop", ids[:700]) == []
        assert not await api.retry_dead("shop", ids[0])
        assert await api.retry_dead("shop", ids[700])
        assert await api.drop_dead_events("shop", ids[700:800]) == ids[701:800]
        assert journal.dead_letters.count("shop") == 700
        assert journal.size[0] == 1500 + 701
        publisher.close()

    asyncio.run(main())


def test_a_journal_is_read_from_its_end(tmp_path: Path) -> None:
    """The newest events first, page by page; nothing of a journal that is not served here."""

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        journal = publisher.journals.own()
        for n in range(5):
            journal.append([NewEvent(TOPIC, envelope.encode_record(Record(f"id-{n}", 1, float(n), {})), float(n))])
        api = EventsApi(publisher.coordinator, max_events=10, max_bytes=10)
        page = await api.latest(journal.id, api="au*", limit=2)
        assert page is not None
        assert [each["id"] for each in page["events"]] == ["id-4", "id-3"]
        rest = await api.latest(journal.id, page["before"], start=1.0, stop=1.5)
        assert rest is not None
        assert ([each["id"] for each in rest["events"]], rest["before"]) == (["id-1"], None)
        other = await api.latest(journal.id, api="shop")
        assert other == {"events": [], "before": None}
        assert await api.latest("f" * 16) is None
        publisher.close()

    asyncio.run(main())


def test_a_damaged_event_hides_no_other_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the stored events, nor among the dead letters, nor for a group that begins at an event's id."""

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        journal = publisher.journals.own()
        records = [envelope.encode_record(Record(f"id-{n}", 1, 1.0, {"text": "x"})) for n in range(3)]
        for n, record in enumerate([records[0], b"\x94\xa4id-0", records[1], records[2]]):
            [stored] = journal.append([NewEvent(TOPIC, record, 1.0)])
            journal.dead_letters.add("shop", TOPIC, stored.sequence, 5, "no luck", float(n))
        api = EventsApi(publisher.coordinator, max_events=10, max_bytes=10)
        ids = [f"id-{n}" for n in range(3)]
        assert [each["id"] for each in await api.history("auth", "*")] == ids
        assert [each["id"] for each in (await api.kept(journal.id) or {})["events"]] == ids
        assert [each["id"] for each in (await api.latest(journal.id) or {})["events"]] == ids[::-1]
        dead = await api.dead("shop")
        assert [each["id"] for each in dead] == ["id-0", "", "id-1", "id-2"]
        assert await api.drop_dead("shop", dead[1]["native_id"])
        assert journal.history.find(lambda record: id_of(record) == "id-0", b"id-0", "auth") == (
            TOPIC,
            _sequence(dead[0]),
        )
        publisher.close()

    asyncio.run(main())
    assert "is damaged" in caplog.text


def _sequence(told: dict[str, Any]) -> int:
    return int(told["native_id"].rpartition("-")[2])


def test_events_of_a_journal_keep_their_order() -> None:
    """After a clock was set back, no event of a journal is older than the one before it, and none is hidden."""

    def part(journal: str, *times: float) -> list[dict[str, Any]]:
        return [{"published_at": at, "native_id": f"{journal}-{n}"} for n, at in enumerate(times)]

    def told(parts: list[list[dict[str, Any]]], limit: int = 10) -> list[str]:
        return [each["native_id"] for each in module.newest_of(parts, limit)]

    assert told([part("a", 1.0, 3.0), part("b", 2.0, 4.0)]) == ["a-0", "b-0", "a-1", "b-1"]
    assert told([part("a", 1.0, 3.0), part("b", 2.0, 4.0)], 2) == ["a-1", "b-1"]
    assert told([part("a", 5e9, 6e9, 1.0)]) == ["a-0", "a-1", "a-2"]
    assert told([part("a", 5e9, 6e9, 1.0)], 1) == ["a-2"]
    assert told([]) == []


def test_an_event_stored_again_for_one_group_is_marked(tmp_path: Path) -> None:
    """A reader sees that it is a copy; and the head of the journal is returned."""

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        journal = publisher.journals.own()
        record = envelope.encode_record(Record("id", 1, 1.0, {"text": "x"}))
        first, again = journal.append([NewEvent(TOPIC, record, 1.0), NewEvent(TOPIC.for_group("shop"), record, 1.0)])
        api = EventsApi(publisher.coordinator, max_events=10, max_bytes=10)
        page = await api.kept(journal.id)
        assert page is not None
        found = [(each["native_id"], each["event"], each.get("only_group")) for each in page["events"]]
        assert found == [
            (f"{journal.id}-{first.sequence}", "seen", None),
            (f"{journal.id}-{again.sequence}", "seen", "shop"),
        ]
        [told] = await api.journals()
        assert told["head"] == again.sequence
        publisher.close()

    asyncio.run(main())


class Backend:
    """An event backend with groups, two of which no journal knows."""

    async def groups(self, api: str = "") -> dict[tuple[str, str], GroupSummary]:
        names = ["a", "g3", "z"] if api in ("", "auth") else []
        return {("auth", name): GroupSummary(api="auth", name=name, events=(), lag=5) for name in names}


@pytest.mark.parametrize("elsewhere", [None, Backend()], ids=["journals", "backend"])
def test_groups_are_returned_in_pages(tmp_path: Path, elsewhere: Any) -> None:
    """Each once, in the order of API and name, even if some are removed; without a limit all at once."""

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        for number in (3, 1, 4, 0, 2):
            publisher.coordinator.directory.merge(KnownGroup("auth", f"g{number}", ("seen",), 1.0, 1.0, ""))
        api = EventsApi(publisher.coordinator, max_events=10, max_bytes=10, elsewhere=elsewhere)
        names = [f"g{number}" for number in range(5)] if elsewhere is None else ["a", *(f"g{n}" for n in range(5)), "z"]
        every = await api.groups("auth")
        assert [group["name"] for group in every] == names
        assert [group["name"] for group in await api.groups("auth", after=[], limit=100)] == names
        assert [group["name"] for group in every if group["lag"]] == [n for n in ("a", "g3", "z") if elsewhere]
        assert await api.groups("shop", limit=2) == []
        found: list[str] = []
        after: list[str] = []
        while page := await api.groups(after=after, limit=2):
            assert len(page) <= 2
            found += [group["name"] for group in page]
            after = [page[-1]["api"], page[-1]["name"]]
            publisher.coordinator.directory.forget("auth", found[0])
        assert found == names
        publisher.close()

    asyncio.run(main())
