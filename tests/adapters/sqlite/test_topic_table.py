"""The topics of a journal are remembered, also when all of their events are deleted."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from helpers.journals import ONE, TWO, event, page, store, trim
from lightbus.adapters.sqlite.journal import Journal, TopicPage
from lightbus.adapters.sqlite.topic import Topic
from lightbus.adapters.sqlite.topic_table import TopicTable


def test_trimmed_topic_remembers_its_newest_sequence(journal: Journal, path: Path) -> None:
    """When all events of a topic are deleted, the next one names the last of them, also after reopening."""
    [stored] = store(journal, event(at=0.0))
    trim(journal, handled={})
    journal.close()
    reopened = Journal(path)
    assert reopened.topics.last(ONE) == stored.sequence
    assert page(reopened) == TopicPage([], stored.sequence, False, 0)
    assert reopened.append([event()])[0].previous == stored.sequence
    reopened.close()


def test_topics_of_a_failed_commit_are_forgotten() -> None:
    """A topic exists from the commit of its first event on; iterating over topics is not disturbed."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE topics (id INTEGER PRIMARY KEY, api, event, partition)")
        topics = TopicTable()
        first = topics.add(ONE, connection)
        assert (topics.numbers, topics.names, topics.all()) == ({ONE: first}, {first: ONE}, [])
        before = topics.lasts
        topics.move({ONE: 7})
        assert (before, topics.lasts, topics.last(ONE), topics.last(TWO)) == ({}, {ONE: 7}, 7, 0)
        topics.add(TWO, connection)
        topics.forget_added()
        assert (topics.numbers, topics.names, topics.of("auth"), topics.of("else")) == (
            {ONE: first},
            {first: ONE},
            {ONE: 7},
            {},
        )


def test_topics_of_an_api() -> None:
    """A topic exists from the commit of its first event on, with its newest sequence, and for its API only."""
    sold, more, moved = Topic("shop", "sold", 1), Topic("shop", "sold", 2), Topic("stock", "moved", 1)
    table = TopicTable()
    table.added = [sold, moved]
    table.move({sold: 1, moved: 2})
    assert table.of("shop") == {sold: 1}
    table.added = [more]
    table.move({sold: 3, more: 4})
    table.move({sold: 5})
    assert table.of("shop") == {sold: 5, more: 4}
    assert table.of("stock") == {moved: 2}
    assert table.of("other") == {}


def test_reloading_topics_takes_no_more_memory(journal: Journal) -> None:
    """After each failed commit the topics of an API are the existing ones, each once."""
    store(journal, event(ONE), event(TWO))
    for _ in range(3):
        journal.topics.load(journal._write)
    assert journal.topics._of == {"auth": (ONE, TWO)}
