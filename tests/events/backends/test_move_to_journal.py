"""Events move from a backend to a journal: groups continue at their positions, and no event is stored twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.moving import MemoryMove, OnceAway
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.journal import Journal
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.backends.move_to_journal import MoveToJournal
from lightbus.exceptions import EventBackendUnreachable
from lightbus.ports.events import DeadLetter, EventTopic, StoredEvent
from lightbus.ports.moving import MovedEvent, StandingGroup
from lightbus.wire.records import Record, decode_record, encode_record

SEEN, SOLD = EventTopic("seen", 1), EventTopic("sold", 2)
HERE = Topic("shop", *SEEN)


def filled(away: OnceAway) -> MemoryMove:
    """Return a backend with events of all kinds; `mail` has handled them up to the fourth, `stock` all."""
    target = MemoryMove(away)
    kinds = ((SEEN, None), (SEEN, ""), (SEEN, "mail"), (SOLD, ""), (SEEN, None), (SEEN, ""), (SEEN, "mail"))
    for number, (topic, only) in enumerate(kinds, 1):
        record = encode_record(Record(str(number), 1, float(number), {}))
        target.keep(MovedEvent(0, str(number), topic, record, float(number)), only)
    since = time.time() - 100
    target.standing = {
        "mail": StandingGroup("mail", ("*",), since, 4, {SEEN: 3}, {(SEEN, 6): 2}),
        "stock": StandingGroup("stock", ("seen",), since, 0, {SEEN: 7}, {}),
    }
    lost = StoredEvent(99, SEEN, encode_record(Record("99", 1, 99.0, {})), 99.0)
    target.dead = {
        ("stock", 2): DeadLetter("stock", target.events[1][0], 5, "no shelf", 7.0),
        ("stock", 99): DeadLetter("stock", lost, 6, "no room", 8.0),
    }
    return target


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a journal."""
    with closing(Journal(tmp_path / "a.sqlite")) as journal:
        yield journal


def move(source: MemoryMove, journal: Journal) -> dict[str, int]:
    """Move the API `shop`."""
    moving = MoveToJournal(source, "0" * 16, journal, "shop", lambda count: None)
    asyncio.run(moving.run())
    return dict(moving.moved)


def left(journal: Journal, group: str, topic: Topic) -> list[str]:
    """Return the ids of the unhandled events of a group."""
    page = journal.page(topic, journal.cursors.of("shop", group).get(topic, 0), limit=100, max_bytes=10**6)
    return [decode_record(entry.record).id for entry in page.entries]


def test_groups_keep_their_positions(journal: Journal) -> None:
    """No group gets past events, whatever their order; an event for one group goes to that one only."""
    assert move(filled(OnceAway()), journal) == {"events": 7, "dead": 2}
    assert left(journal, "mail", HERE) == ["6"]
    assert left(journal, "mail", HERE.for_group("mail")) == ["7"]
    assert left(journal, "mail", Topic("shop", *SOLD)) == []
    assert left(journal, "stock", HERE) == left(journal, "stock", HERE.for_group("stock")) == []
    [(topic, sequence)] = journal.deliveries.failing("mail").items()
    assert (topic, journal.deliveries.of("mail", topic, sequence)) == (HERE, 2)
    known = {each.name: each for each in journal.groups.all()}
    assert known["mail"].events == ("*",)
    assert known["mail"].created_at == pytest.approx(machine_time() - 100, abs=50)


def test_dead_letters_are_moved(journal: Journal) -> None:
    """Also those whose event was only stored for them."""
    move(filled(OnceAway()), journal)
    told = [
        (each.group, decode_record(each.record).id, each.deliveries, each.error) for each in journal.dead_letters.all()
    ]
    assert told == [("stock", "2", 5, "no shelf"), ("stock", "99", 6, "no room")]


def test_nothing_is_left_behind(journal: Journal) -> None:
    """A second move finds nothing to move."""
    source = filled(OnceAway())
    move(source, journal)
    assert (source.events, source.standing, source.dead, source.noted) == ([], {}, {}, {})
    assert move(source, journal) == {}
    assert journal.size[0] == 8


def test_an_interrupted_move_continues(tmp_path: Path) -> None:
    """Wherever the backend fails, each event is stored once, and each group keeps its position."""
    away = OnceAway()
    for fails_at in range(1, 100):
        with closing(Journal(tmp_path / f"{fails_at}.sqlite")) as journal:
            away.steps, away.fails_at = 0, fails_at
            source = filled(away)
            try:
                move(source, journal)
            except EventBackendUnreachable:
                noted = source.noted.get("journal", {})
                moving = MoveToJournal(source, "0" * 16, journal, "shop", lambda count: None)
                if noted:
                    asyncio.run(moving.clear(int(noted["through"])))
                else:
                    asyncio.run(moving.run())
            assert (journal.size[0], left(journal, "mail", HERE), len(journal.dead_letters.all())) == (8, ["6"], 2)
            assert left(journal, "mail", HERE.for_group("mail")) == ["7"]
            assert (source.events, source.standing) == ([], {})
            if away.steps < fails_at:
                break
    assert fails_at > 10
