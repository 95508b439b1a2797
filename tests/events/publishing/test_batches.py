"""Events that are stored in one commit: while another program locks the journal, and refused hand-offs."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

import pytest
from events.publishing.test_publisher import ME, Out, run

from helpers import wait_until_async
from lightbus.exceptions import JournalError
from lightbus.message import EventMessage
from lightbus.wire import envelope
from lightbus.wire.envelope import Accepted, AnyMessage, Batch, Error, Record


def messages(*what: str) -> list[EventMessage]:
    return [EventMessage(api_name="auth", event_name="kept", kwargs={"what": each, "key": "k"}) for each in what]


def batch(*records: dict[str, Any], **fields: Any) -> Batch:
    rows = [
        [None, envelope.encode_record(Record(f"id-{number}", 1, 0.0, kwargs))] for number, kwargs in enumerate(records)
    ]
    values: dict[str, Any] = {"target": ME, "api": "auth", "event": "kept", "left": 5.0, "rows": rows}
    return Batch(**{"wait_for": "journal", **values, **fields})


def handed_off(out: Out, handed: Batch) -> list[AnyMessage]:
    answers: list[AnyMessage] = []
    out.publisher.batches.hand_off(handed, answers.append)
    return answers


def test_another_program_has_the_journal() -> None:
    """They wait for it together, off the loop, behind waiting events, and before later ones."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("kept")
        out.fire(1)
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            first = out.publisher.batches.publish(messages("1", "2"), event)
            second = await asyncio.to_thread(out.publisher.batches.publish, messages("3", "4"), event)
            answers = handed_off(out, batch({"what": "5", "key": "k"}, {"what": "6", "key": "k"}))
            await wait_until_async(lambda: out.publisher.batcher.is_storing_late)
            assert (first.done(), second.done(), answers) == (False, False, [])
            outsider.execute("ROLLBACK")
        for waiting in (first, second):
            assert len(await asyncio.wrap_future(waiting)) == 2
        await wait_until_async(lambda: answers)
        assert answers == [Accepted(out.native_id(7), ME)]
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 7)
        [entries] = out.records.values()
        assert [entry[0] for entry in entries] == list(range(1, 8))

    run(test)


def test_a_journal_that_cannot_be_opened() -> None:
    """It is an error for callers; for a hand-off, one after which another publisher is asked."""

    async def test(out: Out) -> None:
        out.journals.problem = JournalError("no room")
        out.publisher.batcher._journal = None
        with pytest.raises(JournalError, match="no room"):
            out.publisher.batches.publish(messages("1"), out.apis.get("auth").get_event("kept"))
        [answer] = handed_off(out, batch({"what": "1", "key": "k"}))
        assert isinstance(answer, Error)
        assert (answer.code, answer.started, answer.details) == ("journal_error", False, {"elsewhere": True})

    run(test)


@pytest.mark.parametrize(
    ("handed", "code"),
    [
        (batch(), "protocol_error"),
        (batch({"what": "1", "key": "k"}, target="b" * 16), "peer_refused"),
        (batch({"what": "1", "key": "k"}, {"wath": "2"}), "validation_error"),
        (batch({"what": "1", "key": "k"}, event="nothing"), "event_not_found"),
    ],
)
def test_an_invalid_hand_off(handed: Batch, code: str) -> None:
    """It is refused as a whole, and no event of it is stored."""

    async def test(out: Out) -> None:
        [answer] = handed_off(out, handed)
        assert isinstance(answer, Error)
        assert answer.code == code
        assert out.journals.journal.size[0] == 0

    run(test)


def test_a_batch_that_is_handed_off_twice() -> None:
    """It is stored once, and gets the same answer."""

    async def test(out: Out) -> None:
        handed = batch({"what": "1", "key": "k"}, {"what": "2", "key": "k"})
        assert handed_off(out, handed) == handed_off(out, handed) == [Accepted(out.native_id(2), ME)]
        assert (out.journals.journal.size[0], out.publisher.counts["repeated"]) == (2, 2)

    run(test)


def test_events_without_a_key_take_turns() -> None:
    """A number of events in a row go to one partition, the next ones to another."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        many = [EventMessage(api_name="auth", event_name="seen", kwargs={"what": str(n)}) for n in range(200)]
        places = out.publisher.batches.publish(many, event).result()
        assert [len({topic for topic, _ in places[start : start + 64]}) for start in (0, 64, 128)] == [1, 1, 1]
        assert len({topic for topic, _ in places}) == 4

    run(test)


def test_one_answer_once_all_groups_have_handled_them() -> None:
    """A caller that waits for the groups of several topics gets its answer when the last of these is handled."""

    async def test(out: Out) -> None:
        answers = handed_off(out, batch(*({"what": "1", "key": f"k{number}"} for number in range(5)), wait_for="ack"))
        await wait_until_async(lambda: out.awaited)
        assert len({asked[0] for asked in out.awaited}) == len(out.awaited) > 1
        for *_, done in out.awaited[1:]:
            done(None)
        await asyncio.sleep(0)
        assert answers == []
        out.awaited[0][-1](None)
        await wait_until_async(lambda: answers)
        assert answers == [Accepted(out.native_id(5), ME)]

    run(test)
