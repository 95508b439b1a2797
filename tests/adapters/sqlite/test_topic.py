"""One partition of an event, perhaps for a single group."""

from __future__ import annotations

from lightbus.adapters.sqlite.topic import Topic


def test_topic_of_one_group() -> None:
    """It belongs to the same event; derived again, it is for the other group."""
    topic = Topic("auth", "seen", 3)
    assert (topic.declared_event, topic.only_group) == ("seen", "")
    for group in ("shop", "mail"):
        topic = topic.for_group(group)
        assert (topic.api, topic.declared_event, topic.only_group, topic.partition) == ("auth", "seen", group, 3)
