"""A publisher alone, whose frames are recorded."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from helpers import wait_until_async
from lightbus.adapters.sqlite.journal import Journal
from lightbus.events.publishing.publisher import Publisher
from lightbus.exceptions import JournalError
from lightbus.membership.context import Identity
from lightbus.message import EventMessage
from lightbus.service.api import Api, ApiRegistry, Event, Parameter
from lightbus.wire import envelope
from lightbus.wire.envelope import AnyMessage, Events, Fire, Head, Marker, Record
from lightbus.wire.sizes import Receivers

ME = "a" * 16


MARKER = envelope.marker_topic(bytes(16))


class Auth(Api):
    user_registered = Event(["username", Parameter("age", int, default=0)], key="username")
    seen = Event(["what"])
    kept = Event(["what", "key"], key="key")
    unkeyed = Event(["what", "key"])
    loose = Event(["what"], delivery="best_effort")

    class Meta:
        name = "auth"
        version = 3


class Journals:
    """The journal of the publisher; `problem` is raised when it is opened."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory / "00000000000000aa.sqlite")
        self.problem: JournalError | None = None

    def own(self) -> Journal:
        if self.problem is not None:
            raise self.problem
        return self.journal


class Out:
    """A publisher whose frames are recorded."""

    def __init__(self, directory: Path, max_message_size: int = 64 * 1024 * 1024) -> None:
        self.journals = Journals(directory)
        self.first = self.journals.journal.head
        self.frames: list[tuple[bytes, AnyMessage]] = []
        self.sizes: list[int] = []
        self.awaited: list[tuple[Any, ...]] = []
        """Whose handling by all groups is waited for."""
        self.apis = ApiRegistry()
        self.apis.add(Auth())
        self.receivers = Receivers(max_message_size)
        self.publisher = Publisher(
            Identity(bus="b", service="s", process="p", instance=ME, host="h"),
            self.apis,
            self.send,
            self.journals,
            self.receivers,
            when_handled=lambda *asked: self.awaited.append(asked),
            on_subscription=lambda topic, subscribed: None,
            max_message_size=max_message_size,
        )

    def send(self, frame: bytes) -> None:
        topic, message = envelope.decode_published(frame)
        assert isinstance(message, (Events, Marker, Head))
        self.sizes.append(len(frame))
        self.frames.append((topic, message))

    def fire(self, count: int, size: int = 10, key: str | None = "k", event: str = "kept") -> list[int]:
        """Fire this many events from a plain thread, and return their sequences, counted from the first."""
        return [self._fire(size, key, event) for _ in range(count)]

    def _fire(self, size: int, key: str | None, event: str) -> int:
        declared = self.apis.get("auth").get_event(event if key is not None else "unkeyed")
        message = EventMessage(api_name="auth", event_name=declared.name, kwargs={"what": b"r" * size, "key": key})
        self.publisher.publish(message, declared)
        return int(message.native_id.rpartition("-")[2] or 0) - self.first if message.native_id else 0

    @property
    def records(self) -> dict[bytes, list[Any]]:
        """The published records, per topic, in order; sequences counted from the first."""
        found: dict[bytes, list[Any]] = defaultdict(list)
        for topic, message in self.frames:
            if isinstance(message, Events):
                assert (message.journal, message.publisher) == (self.journals.journal.id, ME)
                found[topic] += [[s - self.first, max(0, p - self.first), record] for s, p, record in message.records]
        return found

    async def hand_off(self, event: str = "seen", *, kwargs: Any = None, id: str = "id-1", **fields: Any) -> AnyMessage:
        """Let an event arrive from a process that does not publish; return the answer."""
        record = envelope.encode_record(Record(id, 1, 0.0, {"what": "it"} if kwargs is None else kwargs))
        values = {"target": ME, "api": "auth", "event": event, "left": 5.0, "key": None, "record": record, **fields}
        answers: list[AnyMessage] = []
        self.publisher.hand_off(Fire(**{"wait_for": "journal", **values}), answers.append)
        await wait_until_async(lambda: answers)
        return answers[0]

    def native_id(self, number: int) -> str:
        """Return the native id of the event of this number."""
        return f"{self.journals.journal.id}-{self.first + number}"


def run(test: Callable[[Out], Awaitable[None]], **kwargs: Any) -> None:
    """Run a test on a loop, with a publisher made on it."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            out = Out(Path(directory), **kwargs)
            try:
                await test(out)
            finally:
                out.journals.journal.close()

    asyncio.run(main())
