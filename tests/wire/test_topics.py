"""The topics of published messages, and what a subscription matches."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from lightbus.wire.field_types import PARTITIONS
from lightbus.wire.topics import EVENT_TOPIC_PARTS, MARKER_PREFIX, event_topic, marker_topic, subscription

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: name != "*"
)
partitions = st.integers(0, PARTITIONS - 1)


@given(names, names, partitions)
def test_a_subscription_matches_its_event(api: str, event: str, partition: int) -> None:
    """A subscription to an event covers all of its partitions, and one to `*` all events of the API."""
    topic = event_topic(api, event, partition)
    assert topic.startswith(subscription(api, event))
    assert topic.startswith(subscription(api, "*"))
    assert topic.count(b"\0") == EVENT_TOPIC_PARTS


@given(names, names, names, names, partitions)
@example("auth", "user", "auth2", "user", 0)
@example("auth", "user", "auth", "user_registered", 0)
@example("auth2", "user", "auth", "user", 0)
@example("auth", "user_registered", "auth", "user", 15)
def test_a_subscription_matches_nothing_else(api: str, event: str, other: str, fired: str, partition: int) -> None:
    """An event whose name begins with another's is not matched, though subscriptions are prefixes."""
    topic = event_topic(other, fired, partition)
    assert topic.startswith(subscription(api, event)) is ((api, event) == (other, fired))
    assert topic.startswith(subscription(api, "*")) is (api == other)


@given(names, names, partitions, st.binary(min_size=16, max_size=16))
def test_markers_come_after_every_topic(api: str, event: str, partition: int, unique: bytes) -> None:
    """Subscriptions reach a publisher in order, so a marker means that all are active; no event looks like one."""
    marker = marker_topic(unique)
    assert marker > event_topic(api, event, partition)
    assert marker > subscription(api, event)
    assert marker.startswith(MARKER_PREFIX)
    assert not event_topic(api, event, partition).startswith(MARKER_PREFIX)


def test_topics_have_fixed_width_partitions() -> None:
    """Partition 1 is not a prefix of partition 16."""
    assert event_topic("auth", "seen", 1) == b"auth\0seen\0" + b"01\0"
    assert event_topic("auth", "seen", 15) == b"auth\0seen\0" + b"0f\0"
