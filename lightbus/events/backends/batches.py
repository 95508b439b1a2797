"""Events that are fired together: kept by one commit, all of them or none, by this process or for another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from ...adapters.sqlite.journal import Stored
from ...adapters.sqlite.topic import Topic
from ...exceptions import EventNotFound, LightbusException, LightbusTimeout, ProtocolError
from ...message import EventMessage
from ...service.api import Event
from ...wire.envelope import Accepted, AnyMessage, Batch, Error
from ..backend_places import AnyPlace, BackendPlace
from ..event_publisher import EventPublisher
from ..event_record import RecordRow, key_of, native_id, record_of
from ..publishing.publisher import Publisher
from .backend_publisher import BackendPublisher

__all__ = ["hand_off_batch", "newest_places", "publish_batch", "publish_rows"]


def publish_batch(publisher: EventPublisher, messages: Sequence[EventMessage], event: Event) -> Future[list[AnyPlace]]:
    """Publish the events of these messages together; note in each where it is to be found."""
    key, instance = event.key, _journal_of(publisher).identity.instance
    rows = [
        (record_of(each), None if key is None else key_of(event, each.kwargs), each.published_at, "")
        for each in messages
    ]
    for message in messages:
        message.publisher = instance
    kept = _publish(publisher, messages[0].api_name, event, rows, [each.id for each in messages])
    places: Future[list[AnyPlace]] = Future()
    kept.add_done_callback(partial(_note_places, messages, places))
    return places


def publish_rows(
    publisher: EventPublisher, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str]
) -> Future[list[AnyPlace]]:
    """
    Keep events of this process and have them published. From any thread.

    All have the time of the first. Return what tells where they are, or the last ones of their topics: mostly done
    already. Of best effort there is nothing to tell. Raises PayloadTooLarge, JournalError: then none of them was kept.
    """
    places: Future[list[AnyPlace]] = Future()
    if event.key is None and event.delivery != "best_effort" and not _is_kept_elsewhere(publisher, api, event):
        journal, records = _journal_of(publisher), [row[0] for row in rows]
        journal.size.check_all(f"{api}.{event.name}", records)
        if (newest := journal.batcher.append_runs((api, event.name), records, rows[0][2])) is not None:
            places.set_result(list(newest))
            return places
    kept = _publish(publisher, api, event, rows, ids)
    kept.add_done_callback(partial(_pass_on, to=places, made=lambda kept: [place for _, place in kept]))
    return places


def _publish(
    publisher: EventPublisher, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str]
) -> Future[list[tuple[str, AnyPlace]]]:
    journal = _journal_of(publisher)
    journal.size.check_all(f"{api}.{event.name}", [row[0] for row in rows])
    if event.delivery != "best_effort":
        return _keep(publisher, api, event, rows, ids, is_own=True)
    journal.batcher.append_all_live((api, event.name), rows)
    nowhere: Future[list[tuple[str, AnyPlace]]] = Future()
    nowhere.set_result([])
    return nowhere


def newest_places(places: Iterable[AnyPlace]) -> list[AnyPlace]:
    """Return the last place of each topic: who has handled that has handled all before it."""
    newest: dict[Any, AnyPlace] = {}
    for place in places:
        newest[place.api if isinstance(place, BackendPlace) else place[0]] = place
    return list(newest.values())


def hand_off_batch(publisher: EventPublisher, batch: Batch, reply: Callable[[AnyMessage], None]) -> None:
    """Publish events for a process that cannot; answer once they are kept, or handled if it asks for that."""
    journal = _journal_of(publisher)
    try:
        received = [
            journal.hand_offs.received(batch.target, batch.api, batch.event, record) for _, record in batch.rows
        ]
        if not received:
            raise ProtocolError("a batch has no events.")
    except (LightbusException, EventNotFound, ProtocolError) as error:
        journal.hand_offs.refuse(error, reply)
        return
    event, now = received[0][0], time.time()
    rows: list[RecordRow] = [
        (data, key if key is not None else key_of(event, kwargs), now, id)
        for (key, _), (_, kwargs, data, id) in zip(batch.rows, received, strict=True)
    ]
    journal.counts["handed_off"] += len(rows)
    if event.delivery == "best_effort":
        journal.batcher.append_all_live((batch.api, batch.event), rows)
        reply(Accepted("", journal.identity.instance))
        return
    try:
        kept = _keep(publisher, batch.api, event, rows, [id for *_, id in rows], is_own=False)
    except LightbusException as error:
        reply(Error(error.code, str(error), False, {"elsewhere": True}))
        return
    kept.add_done_callback(partial(_answer, publisher, batch, reply))


def _journal_of(publisher: EventPublisher) -> Publisher:
    journal = publisher.journal if isinstance(publisher, BackendPublisher) else publisher
    assert isinstance(journal, Publisher)
    return journal


def _is_kept_elsewhere(publisher: EventPublisher, api: str, event: Event) -> bool:
    return isinstance(publisher, BackendPublisher) and publisher.is_kept_elsewhere(api, event)


def _keep(
    publisher: EventPublisher, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str], *, is_own: bool
) -> Future[list[tuple[str, AnyPlace]]]:
    """Keep events wherever those of their API are kept; return in which store each is, and where."""
    kept: Future[list[tuple[str, AnyPlace]]] = Future()

    def in_backend(done: Future[list[BackendPlace]]) -> None:
        _pass_on(done, kept, lambda places: [(each.store, each) for each in places])

    def in_journal(topics: Sequence[Topic], done: Future[list[Stored]]) -> None:
        def places(stored: list[Stored]) -> list[tuple[str, AnyPlace]]:
            journal.counts["repeated"] += sum(not each[2] for each in stored)
            name = journal.batcher.journal_id
            return [(name, (topic, each[0])) for topic, each in zip(topics, stored, strict=True)]

        _pass_on(done, kept, places)

    if isinstance(publisher, BackendPublisher) and publisher.is_kept_elsewhere(api, event):
        publisher.put_together(api, event.name, rows, ids, is_own=is_own).add_done_callback(in_backend)
    else:
        journal = _journal_of(publisher)
        topics, stored = journal.batcher.append_all((api, event.name), rows)
        stored.add_done_callback(partial(in_journal, topics))
    return kept


def _pass_on(done: Future[Any], to: Future[Any], made: Callable[[Any], Any]) -> None:
    """Pass an outcome on, unless nobody waits for it any more."""
    if not to.set_running_or_notify_cancel():
        return
    if (error := done.exception()) is not None:
        to.set_exception(error)
    else:
        to.set_result(made(done.result()))


def _note_places(
    messages: Sequence[EventMessage], places: Future[list[AnyPlace]], done: Future[list[tuple[str, AnyPlace]]]
) -> None:
    def noted(kept: list[tuple[str, AnyPlace]]) -> list[AnyPlace]:
        for message, (store, place) in zip(messages, kept, strict=bool(kept)):  # of best effort there is none
            message.native_id = store, _sequence_of(place)
        return [place for _, place in kept]

    _pass_on(done, places, noted)


def _sequence_of(place: AnyPlace) -> int:
    return place.sequence if isinstance(place, BackendPlace) else place[1]


def _answer(
    publisher: EventPublisher,
    batch: Batch,
    reply: Callable[[AnyMessage], None],
    done: Future[list[tuple[str, AnyPlace]]],
) -> None:
    if (error := done.exception()) is not None:
        code = error.code if isinstance(error, LightbusException) else LightbusException.code
        reply(Error(code, str(error), False, {"elsewhere": True}))
        return
    store, last = done.result()[-1]
    accepted = Accepted(native_id(store, _sequence_of(last)), _journal_of(publisher).identity.instance)
    if batch.wait_for == "journal":
        reply(accepted)
        return
    loop = _journal_of(publisher).loop
    waiting = [
        publisher.handled_by_all(each, batch.left) for each in newest_places(place for _, place in done.result())
    ]
    left = len(waiting)

    def handled(future: Future[None]) -> None:
        nonlocal left
        left -= 1
        if not future.cancelled() and future.exception() is not None and left >= 0:
            left = -1  # it is answered once
            text = "Not every group has handled the events in time. They are kept, and it is given them all the same."
            reply(Error(LightbusTimeout.code, text, True, {}))
        elif left == 0:
            reply(accepted)

    for each in waiting:
        each.add_done_callback(lambda future: loop.call_soon_threadsafe(handled, future))
