"""Tests of lightbus.gateway.streams: what a stream sends, and where it resumes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus import NotReachable
from lightbus.gateway import streams
from lightbus.gateway.cursor import Cursor
from lightbus.gateway.event_reader import Item
from lightbus.gateway.streams import NOT_READ, EventStream, frames_of
from lightbus.recurring import RecurringLog

ONE, TWO = "0123456789abcdef", "fedcba9876543210"


def item(sequence: int, journal: str = ONE, *, is_old: bool = False, at: float = 1000.0) -> Item:
    return Item(journal, sequence, at, is_old, json.dumps(f"{journal[:1]}{sequence}").encode())


class ScriptedReader:
    """A reader of events that a test gives it; `kept` are those that can be read of the past."""

    api = "shop"

    def __init__(self, *kept: Item, most: int = 100) -> None:
        self.kept = [*kept]
        self.items: list[Item] = []
        self.number = self.unkept = 0
        self.places: dict[str, int] = {ONE: 0, TWO: 0}
        self.most = most
        self.reads = 0
        self.error: Exception | None = None
        self._more = asyncio.Event()

    def push(self, *items: Item) -> None:
        for each in items:
            self.items.append(each)
            self.number += 1
            if each.journal:
                self.kept.append(each)
                self.places[each.journal] = each.sequence
            else:
                self.unkept += 1
        self._more.set()

    def since(self, number: int) -> list[Item] | None:
        missing = self.number - number
        return None if missing > min(self.most, len(self.items)) else self.items[len(self.items) - missing :]

    async def wait(self, number: int, seconds: float) -> None:
        while self.number <= number:
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), seconds)
            except TimeoutError:
                return

    async def stored_after(self, places: dict[str, int]) -> AsyncIterator[Item]:
        self.reads += 1
        for each in [each for each in self.kept if each.sequence > places.get(each.journal, 0)]:
            yield each
        if self.error is not None:
            raise self.error


class Client:
    """Reads a stream as a browser does: it remembers the latest id."""

    def __init__(self, reader: ScriptedReader, cursor: Cursor) -> None:
        self.given: list[str] = []
        self.events: list[str] = []
        self.last = ""
        self.frames: AsyncGenerator[bytes, None] = frames_of(reader, cursor)  # type: ignore[arg-type]

    async def read(self, count: int) -> list[str]:
        """Read until there are so many events."""
        while len(self.given) < count:
            self.take(await anext(self.frames))
        return self.given

    def take(self, frame: bytes) -> None:
        kind = ""
        for line in frame.decode().splitlines():
            name, _, value = line.partition(": ")
            if name == "id":
                self.last = value
            elif name == "event":
                kind = value
            elif name == "data" and kind:
                self.events.append(f"{kind} {value}")
            elif name == "data":
                self.given.append(json.loads(value))
            kind = kind if line else ""


def test_stored_events_then_new_ones() -> None:
    """Each once, and each followed by its place."""

    async def main() -> tuple[list[str], str]:
        reader = ScriptedReader(item(1), item(2))
        client = Client(reader, Cursor(since=0.0, places={ONE: 1}))
        await client.read(1)
        reader.push(item(3), item(4))
        return await client.read(3), client.last

    given, last = asyncio.run(main())
    assert given == ["02", "03", "04"]
    assert last == f"0.000@{ONE}-4"


def test_an_event_that_arrives_during_reading_comes_once() -> None:
    """Although it is both stored and live."""

    async def main() -> list[str]:
        reader = ScriptedReader(item(1))
        client = Client(reader, Cursor(since=0.0))
        client.take(await anext(client.frames))
        reader.push(item(2))
        await client.read(2)
        reader.push(item(3))
        return await client.read(3)

    assert asyncio.run(main()) == ["01", "02", "03"]


def test_missing_journals_of_a_cursor_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be of another bus, or gone: the stream reports a gap, once."""
    monkeypatch.setattr(streams, "GAP_AFTER", 0.01)
    monkeypatch.setattr(streams, "HEARTBEAT", 0.05)

    async def main(places: dict[str, int]) -> Client:
        reader = ScriptedReader(item(1), item(2))
        client = Client(reader, Cursor(since=0.0, places=places))
        beats = 0
        while beats < 3:
            client.take(frame := await anext(client.frames))
            beats += frame.startswith(b": alive")
        return client

    client = asyncio.run(main({ONE: 1, "a" * 16: 7, "b" * 16: 7}))
    [told] = client.events
    assert told.startswith('gap {"journals": 2, "detail": "No reachable publisher has 2 of the journals of Last-')
    assert client.given == ["02"]
    assert "a" * 16 in client.last  # whoever comes again goes on there, should the journal have come back
    assert asyncio.run(main({ONE: 1, TWO: 1})).events == []


def test_a_slow_client_continues_from_the_journals() -> None:
    """It gets all stored events, and the number of best-effort events it missed."""

    async def main() -> tuple[Client, int]:
        reader = ScriptedReader(most=2)
        client = Client(reader, Cursor(since=0.0))
        reader.push(item(1))
        await client.read(1)
        reader.push(item(2), item(0, ""), item(0, ""), item(3), item(4), item(5))
        await client.read(5)
        reader.push(item(0, ""), item(6))
        await client.read(7)
        return client, reader.reads

    client, reads = asyncio.run(main())
    assert client.given == ["01", "02", "03", "04", "05", "0", "06"]
    assert client.events == ['dropped {"count":2}']
    assert reads == 2


def test_best_effort_moves_no_place() -> None:
    """A client that reconnects resumes after the last stored event."""

    async def main() -> str:
        reader = ScriptedReader()
        client = Client(reader, Cursor(since=0.0, places={ONE: 1}))
        client.take(await anext(client.frames))
        reader.push(item(2), item(0, ""))
        await client.read(2)
        return client.last

    assert asyncio.run(main()) == f"0.000@{ONE}-2"


def test_no_newer_events_while_stored_ones_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Newer events would move the cursor past unread ones: reading is repeated, with a comment meanwhile.

    The host that does not answer is in the log, and not in the stream.
    """
    monkeypatch.setattr(streams, "READ_AGAIN", 0.01)
    monkeypatch.setattr(streams, "failures", RecurringLog(logging.getLogger("lightbus.gateway")))

    async def main() -> tuple[Client, list[bytes]]:
        reader = ScriptedReader(item(1))
        reader.error = NotReachable("shop on host 192.0.2.7 is away")
        client = Client(reader, Cursor(since=0.0))
        said: list[bytes] = []
        while len(said) < 2:
            client.take(frame := await anext(client.frames))
            said += [frame] if frame.startswith(b":") else []
        reader.push(item(3))
        reader.kept.insert(1, item(2))
        reader.error = None
        await client.read(3)
        return client, said

    client, said = asyncio.run(main())
    assert client.given == ["01", "02", "03"]
    assert {*said} == {NOT_READ}
    assert NOT_READ.startswith(b": ")
    assert NOT_READ.endswith(b"\n\n")
    assert [each.getMessage() for each in caplog.records] == [
        "Stored events of shop cannot be read for a stream, which is tried again: shop on host 192.0.2.7 is away"
    ]


def test_old_events_of_a_journal_that_comes_later() -> None:
    """They are sent if the cursor has the journal, or asks for events that old; else only new ones are."""

    async def main(cursor: Cursor) -> tuple[list[str], str]:
        reader = ScriptedReader()
        client = Client(reader, cursor)
        client.take(await anext(client.frames))
        reader.push(*(item(n, TWO, is_old=True, at=10.0) for n in (1, 2)), item(3, TWO, at=10.0))
        reader.push(item(1))
        reader.kept.clear()
        await client.read(2)
        return client.given, client.last

    assert asyncio.run(main(Cursor(since=100.0)))[0] == ["f3", "01"]
    assert asyncio.run(main(Cursor(since=100.0, places={TWO: 1})))[0] == ["f2", "f3", "01"]
    assert asyncio.run(main(Cursor(since=5.0)))[0] == ["f1", "f2", "f3", "01"]


def test_idle_stream_sends_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat also advances the cursor past events of other names."""
    monkeypatch.setattr(streams, "HEARTBEAT", 0.01)

    async def main() -> str:
        reader = ScriptedReader()
        reader.places = {ONE: 70}
        client = Client(reader, Cursor(since=0.0, places={ONE: 5}))
        while client.last != f"0.000@{ONE}-70":
            client.take(await anext(client.frames))
        return client.last

    asyncio.run(main())


def test_cursor_too_long_for_a_header_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are still sent; client and log are told that the stream cannot be resumed."""
    monkeypatch.setattr(streams, "MAX_TEXT", 5)
    monkeypatch.setattr(streams, "failures", RecurringLog(logging.getLogger("lightbus.gateway")))

    async def main() -> Client:
        reader = ScriptedReader(item(1), item(2))
        client = Client(reader, Cursor(since=0.0))
        await client.read(2)
        return client

    client = asyncio.run(main())
    assert (client.given, client.last) == (["01", "02"], "")
    [told] = client.events
    assert told.startswith('no_place {"journals": 0, "detail": "There are 0 journals')
    assert "cannot be resumed" in caplog.text


def test_the_place_of_many_journals_is_not_sent_behind_each_event() -> None:
    """It would be most of the traffic; it is sent after the last of events that arrive together."""
    journals = [f"{number:016x}" for number in range(1, 601)]

    async def main() -> tuple[int, int]:
        reader = ScriptedReader()
        reader.places = dict.fromkeys(journals, 5)
        client = Client(reader, Cursor(since=0.0, places=dict.fromkeys(journals, 5)))
        client.take(await anext(client.frames))
        reader.push(*(item(number + 6, journals[number % 600]) for number in range(600)))
        size = 0
        while len(client.given) < 600 or client.last == "":
            frame = await anext(client.frames)
            size += len(frame)
            client.take(frame)
        client.take(await anext(client.frames))  # the place behind the last one
        assert Cursor.read(client.last).places == {each: number + 6 for number, each in enumerate(journals)}
        return size, len(client.last)

    size, place = asyncio.run(main())
    assert place > 4096
    assert size < 600 * 30 + 4 * place


STEPS = st.lists(st.tuples(st.sampled_from(["push", "read", "again"]), st.integers(1, 4)), max_size=30)


@given(STEPS, st.integers(1, 6))
def test_no_event_is_lost_or_repeated(steps: list[tuple[str, int]], most: int) -> None:
    """In any order of arrival, for a slow client, and for one that is cut off and reconnects."""

    async def main() -> None:
        reader = ScriptedReader(most=most)
        client = Client(reader, Cursor(since=0.0))
        pushed: list[str] = []
        for kind, count in steps:
            if kind == "push":
                for _ in range(count):
                    journal = ONE if len(pushed) % 3 else TWO
                    each = item(len(pushed) + 1, journal)
                    pushed.append(json.loads(each.data))
                    reader.push(each)
            elif kind == "read":
                await client.read(min(len(pushed), len(client.given) + count))
            elif client.last:
                given = client.given
                await client.frames.aclose()
                client = Client(reader, Cursor.read(client.last))
                client.given = given
        await client.read(len(pushed))
        assert sorted(client.given) == sorted(pushed)
        assert [each for each in client.given if each[0] == "0"] == [each for each in pushed if each[0] == "0"]
        await client.frames.aclose()

    asyncio.run(main())


def test_stream_ends_with_the_client_or_the_gateway() -> None:
    """Neither is an error, and `on_end` is called."""

    async def main(*, by_us: bool) -> tuple[list[Any], int]:
        closing, gone, ended, sent = asyncio.Event(), asyncio.Event(), [0], []

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            (closing if by_us else gone).set()

        def on_end() -> None:
            ended[0] += 1

        reader: Any = ScriptedReader()
        await EventStream(reader, Cursor(since=0.0), closing, on_end)({}, receive, send)
        return sent, ended[0]

    sent, ended = asyncio.run(main(by_us=True))
    assert sent[0]["status"] == 200
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert ended == 1
    sent, ended = asyncio.run(main(by_us=False))
    assert all(each.get("more_body", True) for each in sent)
    assert ended == 1


def test_unexpected_error_of_a_stream_is_raised() -> None:
    """It reaches the server's log, and the stream is not counted any more."""
    ended = []

    async def main() -> None:
        reader: Any = ScriptedReader()
        reader.error = KeyError("nobody thought of it")

        async def receive() -> dict[str, Any]:
            return await asyncio.Event().wait() or {}  # type: ignore[return-value]

        async def send(message: Any) -> None:
            pass

        await EventStream(reader, Cursor(since=0.0), asyncio.Event(), lambda: ended.append(1))({}, receive, send)

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert ended == [1]
