"""The events of an adopted journal count for every group, until the journal is gone."""

from __future__ import annotations

from pathlib import Path

from helpers.group_talk import Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.wire.envelope import (
    Assign,
    Open,
    Streams,
)


def test_a_group_known_only_from_an_adopted_journal(tmp_path: Path) -> None:
    """It gets the events of our journal, too, and is stored there when the adopted one is gone."""

    async def test(publisher: Publishes) -> None:
        await publisher.fire("seen", n=1)
        other = Journal(tmp_path / "00000000000000ff.sqlite")
        other.append([NewEvent(Topic("auth", "seen", 3), b"new", 9.0)])
        for name, created_at in (("mail", machine_time() - 100), ("late", machine_time())):
            other.groups.save(KnownGroup("auth", name, ("seen",), created_at, machine_time(), "d"))
        publisher.journals.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        groups = publisher.coordinator.groups
        # The stored cursors of the adopted one are none: there, nothing is handled.
        assert [publisher.coordinator.progress.lag(groups["auth", name]) for name in ("mail", "late")] == [2, 1]
        [(topic, _)] = publisher.journals.own().topics.of("auth").items()
        assert publisher.coordinator.progress.cursors_of(publisher.journals.own(), topic).keys() == {"mail", "late"}
        talk = Talk(publisher)
        assigned = await talk.join(group="mail", created_at=1.0)
        assert isinstance(assigned, Assign)
        opened = await talk.ask(Open("auth", "mail", assigned.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        assert {row[0] for row in opened.streams} == {other.id, publisher.journals.own().id}
        publisher.coordinator.directory.journal_removed(other)  # and is closed a moment later
        assert publisher.coordinator.progress.lag(groups["auth", "mail"]) == 1
        assert {group.name for group in publisher.journals.own().groups.all()} == {"mail", "late"}

    run(tmp_path, test)
