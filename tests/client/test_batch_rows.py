"""The rows of events that are fired together equal those of single messages."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from lightbus import Api, DeformError, Event, InvalidEventArguments, Parameter, ValidationError
from lightbus.client.batch_rows import rows_of
from lightbus.config import ApiSettings
from lightbus.events.event_record import EventIds, RecordRow
from lightbus.tracing import Trace
from lightbus.wire.envelope import decode_record


class AuthApi(Api):
    moved = Event([Parameter("user", str), Parameter("age", int, default=18), Parameter("what", Any)], key="user")
    plain = Event([Parameter("user", str), Parameter("number", int)])

    class Meta:
        name = "auth"


def made(
    *events: Any, trace: Trace | None = None, settings: ApiSettings | None = None
) -> tuple[list[str], list[RecordRow]]:
    """Return the ids and rows of events."""
    engine: Any = SimpleNamespace(event_ids=EventIds("me"))
    return rows_of(engine, "auth", AuthApi().events["moved"], events, settings or ApiSettings(), trace)


def test_rows_have_what_messages_would_have() -> None:
    """Ids, defaults, keys and trace; any mapping is accepted, and later changes do not affect the row."""
    first = {"user": "sally", "what": [1]}
    ids, rows = made(first, MappingProxyType({"user": "bob", "age": 3, "what": 2}), trace={"traceparent": "00-1"})
    first["what"].append(2)  # type: ignore[attr-defined]
    records = [decode_record(record) for record, *_ in rows]
    assert [record.id for record in records] == ids == ["me-1", "me-2"]
    assert [record.kwargs for record in records] == [
        {"user": "sally", "age": 18, "what": [1]}, {"user": "bob", "age": 3, "what": 2}
    ]  # fmt: skip
    assert [key for _, key, _, _ in rows] == ["sally", "bob"]
    assert {record.published_at for record in records} == {at for *_, at, _ in rows}
    assert [record.trace for record in records] == [{"traceparent": "00-1"}] * 2


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"user": 5, "what": 0}, ValidationError, "user"),
        ({"user": "sally", "what": object()}, DeformError, r"arguments of auth\.moved cannot be sent: kwargs\.what"),
        ("sally", InvalidEventArguments, "takes the arguments of each event as a dict"),
    ],
)
def test_the_first_invalid_event_is_named(wrong: Any, error: type[Exception], text: str) -> None:
    """The error says what is wrong, and with which event."""
    with pytest.raises(error, match=text) as caught:
        made({"user": "sally", "what": 0}, wrong, wrong)
    assert caught.value.__notes__ == ["It is number 1 of 3 that were to be fired together: none was."]


def test_arguments_are_checked_where_that_is_wanted() -> None:
    """Without validation of what goes out, they are sent as they are."""
    settings = ApiSettings.model_validate({"validate": {"outgoing": False}})
    _, [row] = made({"user": 5}, settings=settings)
    assert decode_record(row[0]).kwargs == {"user": 5, "age": 18}


def test_invalid_event_in_a_batch_is_found() -> None:
    """Without defaults events are checked together; an invalid one at any position is found and named."""
    engine: Any = SimpleNamespace(event_ids=EventIds("me"))
    event = AuthApi().events["plain"]
    good: list[dict[str, Any]] = [{"user": "sally", "number": number} for number in range(5)]
    ids, rows = rows_of(engine, "auth", event, good, ApiSettings(), None)
    records = [decode_record(record) for record, *_ in rows]
    assert ([record.kwargs for record in records], [record.id for record in records]) == (good, ids)
    for place in range(5):
        for wrong in ({"user": "sally", "number": "x"}, {"user": "sally"}, {"user": "sally", "other": 1}):
            with pytest.raises(ValidationError) as caught:
                rows_of(engine, "auth", event, [*good[:place], wrong, *good[place + 1 :]], ApiSettings(), None)
            assert caught.value.__notes__ == [f"It is number {place} of 5 that were to be fired together: none was."]
        too_large = {"user": "sally", "number": 10**4000}
        with pytest.raises(DeformError, match=r"cannot be sent: kwargs\.number") as refused:
            rows_of(engine, "auth", event, [*good[:place], too_large, *good[place + 1 :]], ApiSettings(), None)
        assert refused.value.__notes__ == [f"It is number {place} of 5 that were to be fired together: none was."]
