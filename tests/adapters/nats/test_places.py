"""The names of streams, subjects and buckets."""

from __future__ import annotations

import re

import pytest

from lightbus.adapters.nats.places import StreamPlaces
from lightbus.ports.events import EventTopic


def test_names_are_valid_for_servers() -> None:
    """Whatever the names of bus and API; no two share a name."""
    places = [StreamPlaces("b", "shop.orders"), StreamPlaces("b", "shop_orders"), StreamPlaces("b:c", "shop.orders")]
    names = [name for each in places for name in (each.stream, each.bucket)]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)


def test_subject_gives_topic_and_receiver() -> None:
    """And the receiver of an event."""
    places, topic = StreamPlaces("b", "shop"), EventTopic("sold", 7)
    assert places.topic_of(places.subject(topic)) == (topic, "all")
    assert places.topic_of(places.subject(topic, "0123456789abcdef")) == (topic, "0123456789abcdef")


@pytest.mark.parametrize(
    "subject", ["", "sold", "sold.7", "sold.7.all.more", "sold.x.all", "sold.-1.all", "sold.1234567.all"]
)
def test_foreign_subject_has_no_topic(subject: str) -> None:
    """It gives None."""
    places = StreamPlaces("b", "shop")
    assert places.topic_of(f"{places.prefix}.{subject}") is None
