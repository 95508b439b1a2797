"""Events move from journals to a backend: each group keeps its unhandled events, and no event is stored twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.journals import ONE, TWO, event, group
from helpers.moving import MemoryMove, OnceAway
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.backends import move_to_backend as moving
from lightbus.exceptions import EventBackendUnreachable
from lightbus.wire.records import Record, encode_record

OTHER = Topic("shop", "sold", 0)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use pages of two events."""
    monkeypatch.setattr(moving, "PAGE", 2)


@pytest.fixture
def away() -> OnceAway:
    """Return the error of a backend that is unreachable."""
    return OnceAway()


def record(number: int) -> bytes:
    """Return an event with this number as its id."""
    return encode_record(Record(str(number), 1, float(number), {}))


def fill(journal: Journal, *, handled: int) -> None:
    """Store five events of an API and one of another; `shop` has handled the first ones, `mail` all but a dead one."""
    stored = journal.append([event(ONE, record(n)) for n in range(4)] + [event(TWO, record(4)), event(OTHER, b"x")])
    for name in ("shop", "mail"):
        journal.groups.save(group(name))
    positions = [("shop", ONE, stored[handled - 1].sequence), ("shop", TWO, 0)]
    done = [("mail", ONE, stored[3].sequence), ("mail", TWO, stored[4].sequence)]
    journal.change(*journal.cursors.changes(cursors=[*positions, *done], held=[("auth", "shop", ONE.partition, True)]))
    journal.deliveries.count("shop", ONE, stored[handled].sequence, 3)
    journal.dead_letters.add("mail", ONE, stored[0].sequence, 5, "no stamps", 7.0)


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[list[Journal]]:
    """Return two journals, in which a group has different positions."""
    with closing(Journal(tmp_path / "a.sqlite")) as one, closing(Journal(tmp_path / "b.sqlite")) as two:
        fill(one, handled=3)
        fill(two, handled=1)
        yield [one, two]


def move(journals: list[Journal], target: MemoryMove) -> dict[str, int]:
    """Move the API `auth`."""
    groups: dict[str, KnownGroup] = {name: group(name) for name in ("shop", "mail")}
    return dict(asyncio.run(moving.move_to_backend(journals, groups, target, "auth", lambda count: None)))


def numbers(target: MemoryMove, only: str | None) -> list[int]:
    """Return the ids of the moved events."""
    return [int(each.published_at) for each, whose in target.events if whose == only]


def test_groups_keep_their_unhandled_events(journals: list[Journal], away: OnceAway) -> None:
    """From each journal the events after the group's position, with their deliveries; all others once, as past."""
    target = MemoryMove(away)
    assert move(journals, target) == {"events": 10, "owed": 6, "dead": 2}
    assert numbers(target, None) == [*range(5), *range(5)]
    assert numbers(target, "shop") == [3, 4, 1, 2, 3, 4]
    assert numbers(target, "mail") == []
    assert sorted((name, topic.event, number) for (name, topic, _), number in target.deliveries.items()) == [
        ("shop", "seen", 3), ("shop", "seen", 3),
    ]  # fmt: skip
    assert target.begun == {"shop": {ONE.partition}}
    assert [(each.group, each.deliveries, each.error, each.died_at) for each in target.dead.values()] == [
        ("mail", 5, "no stamps", 7.0)
    ] * len(target.dead)
    assert set(target.added) == {"shop", "mail"}


def test_journals_keep_events_of_other_apis(journals: list[Journal], away: OnceAway) -> None:
    """And none of the moved ones, which no group gets there any more."""
    target = MemoryMove(away)
    move(journals, target)
    for journal in journals:
        assert (journal.size[0], len(journal.dead_letters.all())) == (1, 0)
        assert journal.cursors.of("auth", "shop")[ONE] == journal.topics.last(ONE)
    assert (move(journals, target).get("events", 0), target.noted) == (0, {})


def test_an_event_for_one_group_is_moved_for_that_group(journals: list[Journal], away: OnceAway) -> None:
    """An event that is redelivered to one group is not part of the past, which has it already."""
    journals[0].append([event(ONE.for_group("mail"), record(9))])
    target = MemoryMove(away)
    move(journals, target)
    assert (numbers(target, "mail"), 9 in numbers(target, None), 9 in numbers(target, "shop")) == ([9], False, False)


def test_an_interrupted_move_continues(journals: list[Journal], away: OnceAway, tmp_path: Path) -> None:
    """Wherever the backend fails, moved events are not moved again, and none is left out."""
    whole = MemoryMove(OnceAway())
    move(journals, whole)
    steps = whole.away.steps
    assert steps > 50
    for fails_at in range(1, steps + 1, 3):
        with closing(Journal(tmp_path / f"{fails_at}.sqlite")) as one:
            fill(one, handled=3)
            away.steps, away.fails_at = 0, fails_at
            target = MemoryMove(away)
            try:
                move([one], target)
            except EventBackendUnreachable:
                move([one], target)
            assert numbers(target, None) == [*range(5)], fails_at
            assert numbers(target, "shop") == [3, 4], fails_at
            assert (len(target.dead), one.size[0], target.noted) == (1, 1, {}), fails_at
            if away.steps < fails_at:
                break


def test_events_stored_since_the_last_attempt_are_moved(journals: list[Journal], away: OnceAway) -> None:
    """Although that attempt had moved all of them, and only not cleared the journal yet."""
    [journal, _] = journals
    target = MemoryMove(away)
    source = f"{journal.id}.auth".replace(".", "_")
    target.noted[source] = {"step": "clear", "through": journal.head}
    journal.append([event(ONE, record(8))])
    move([journal], target)
    assert (numbers(target, None), numbers(target, "shop"), numbers(target, "mail")) == ([8], [8], [8])
