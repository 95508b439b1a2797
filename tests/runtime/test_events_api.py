"""`internal.events`: what a publisher answers about the events it keeps is bounded, and can be had in full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from helpers.publishing import Hub
from lightbus.io.journal import NewEvent, Topic
from lightbus.runtime import events_api as module
from lightbus.runtime.events_api import EventsApi
from lightbus.service.api import Api, Event
from lightbus.wire import envelope
from lightbus.wire.envelope import Record

TOPIC = Topic("auth", "seen", 1)


class Auth(Api):
    seen = Event(["text"])

    class Meta:
        name = "auth"


@pytest.mark.parametrize(("size", "most"), [(10, 1000), (400, 2), (5000, 1)])
def test_what_was_set_aside_is_told_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, most: int
) -> None:
    """However large they are together, each is in an answer, and no answer is larger than one event must be."""
    monkeypatch.setattr(module, "MAX_HISTORY_BYTES", 1000)

    async def main() -> None:
        publisher = Hub().publish("a" * 16, tmp_path / "a", Auth())
        journal = publisher.shelf.own()
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
