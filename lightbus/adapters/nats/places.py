"""The names that an API has in a JetStream: of its stream, its subjects, and the bucket of its groups."""

from __future__ import annotations

import re
from hashlib import blake2b

from ...ports.events import EventTopic

__all__ = ["StreamPlaces", "digest"]

_PARTITION = re.compile("[0-9]{1,5}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def digest(*parts: str) -> str:
    """Return a hash of some texts, as 16 hexadecimal digits."""
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


class StreamPlaces:
    """The names of one API of one bus. Never changes."""

    def __init__(self, bus: str, api: str) -> None:
        self.store = digest("jetstream", bus, api)
        self.stream = f"lightbus-{_UNSAFE.sub('_', bus)}-{_UNSAFE.sub('_', api)}-{self.store[:6]}"
        self.prefix = f"lightbus.{self.store}"
        self.bucket = f"lightbus-{self.store}"

    def subject(self, topic: EventTopic, only: str = "all") -> str:
        """Return the subject of a topic: of all events (`>`), those for `all` groups, or those for one, by digest."""
        return f"{self.prefix}.{topic.event}.{topic.partition}.{only}"

    def topic_of(self, subject: str) -> tuple[EventTopic, str] | None:
        """Return the topic of a subject, and the receiver of its events; None for a subject that is not ours."""
        words = subject.removeprefix(f"{self.prefix}.").split(".")
        if len(words) != 3 or not _PARTITION.fullmatch(words[1]):
            return None
        return EventTopic(words[0], int(words[1])), words[2]
