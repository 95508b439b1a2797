"""The progress of groups, over all topics whose events they get."""

from __future__ import annotations

from pathlib import Path

from helpers.group_talk import Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.sqlite.topic import Topic
from lightbus.wire.envelope import Ack, Acked, Assign


def test_acknowledged_events_are_not_owed(tmp_path: Path) -> None:
    """A journal has events for a group until all are handled; none beyond its head can be."""

    async def test(publisher: Publishes) -> None:
        progress, journal, talk = publisher.coordinator.progress, publisher.journals.own(), Talk(publisher)
        assigned = await talk.join(events=["seen"])
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        await publisher.fire("gone", n=2)  # nobody listens to it
        [(topic, head)] = [each for each in journal.topics.of("auth").items() if each[0].event == "seen"]
        group = publisher.coordinator.groups["auth", "shop"]
        assert (progress.has_unhandled(journal), progress.lag(group)) == (True, 1)
        assert (progress.cursors_of(journal, topic), progress.handled_by_all(topic)) == ({"shop": 0}, 0)
        assert progress.has_reached(group, journal.id, topic, head)
        assert not progress.has_reached(group, journal.id, topic, head + 1)
        assert not progress.has_reached(group, journal.id, Topic("auth", "gone", 0), 1)
        ack = Ack("auth", "shop", assigned.generation, [[journal.id, "seen", topic.partition, head]])
        assert await talk.ask(ack) == Acked([])
        assert not progress.has_unhandled(journal)
        assert (progress.lag(group), progress.handled_by_all(topic)) == (0, head)

    run(tmp_path, test)
