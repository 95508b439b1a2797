"""
The topics of PUB and SUB: a published message begins with its topic, and subscriptions are prefixes of topics.

    api NUL event NUL partition NUL

The partition has two hex digits. Two other kinds of topics begin with bytes that begin no name in UTF-8.
"""

from __future__ import annotations

from ..exceptions import ProtocolError
from .field_types import PARTITIONS

__all__ = [
    "EVENT_TOPIC_PARTS",
    "MARKER_PREFIX",
    "MARKER_TOPIC_LENGTH",
    "PRESENCE_PREFIX",
    "event_topic",
    "is_marker_topic",
    "marker_topic",
    "split_topic",
    "subscription",
]

PRESENCE_PREFIX = b"\xfe"
"""The topic that shows a publisher that a consumer is connected. No name begins with this byte in UTF-8."""

MARKER_PREFIX = b"\xff"
"""Markers sort after every topic: libzmq sends subscriptions in order, so a marker means that all are active."""

EVENT_TOPIC_PARTS = 3
MARKER_TOPIC_LENGTH = 1 + 16


def event_topic(api: str, event: str, partition: int) -> bytes:
    """Return `api NUL event NUL pp NUL`: the two hex digits have a fixed width, since a subscription is a prefix."""
    return b"%b\0%b\0%02x\0" % (api.encode(), event.encode(), partition)


def subscription(api: str, event: str) -> bytes:
    """Return the prefix that covers all partitions of an event; of all events of the API for `"*"`."""
    return f"{api}\0".encode() if event == "*" else f"{api}\0{event}\0".encode()


def split_topic(topic: bytes) -> tuple[str, str, int]:
    """Return the API, the event and the partition of a topic. Any bytes give that or ProtocolError, nothing else."""
    try:
        api, event, partition, _ = topic.split(b"\0")
        number = int(partition, 16)
        if 0 <= number < PARTITIONS:
            return api.decode(), event.decode(), number
    except ValueError:
        pass
    raise ProtocolError("A published message has no topic of the form `api NUL event NUL partition NUL`.")


def marker_topic(unique: bytes) -> bytes:
    """Return the topic on which a subscriber asks for its marker; `unique` are 16 random bytes."""
    return MARKER_PREFIX + unique


def is_marker_topic(topic: bytes) -> bool:
    """Return whether a topic is that of a marker: anything else with this prefix is invalid."""
    return topic.startswith(MARKER_PREFIX) and len(topic) == MARKER_TOPIC_LENGTH
