"""Events that are fired together: stored in one commit, all or none, for this process or another one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from ...adapters.sqlite.journal import Stored
from ...adapters.sqlite.topic import Topic
from ...exceptions import EventNotFound, LightbusException, LightbusTimeout, ProtocolError
from ...membership.context import Identity
from ...message import EventMessage
from ...service.api import Event
from ...wire.envelope import Accepted, AnyMessage, Batch, Error
from ..backend_places import AnyPlace, BackendPlace, newest_places, sequence_of
from ..event_record import RecordRow, key_of, native_id, record_of
from .batcher import Batcher
from .hand_off import HandOffs
from .record_size import RecordSize

__all__ = ["Batches", "OtherStore"]


class OtherStore(Protocol):
    """A store that keeps the events of some APIs in place of the journal."""

    def is_kept_elsewhere(self, api: str, event: Event | None) -> bool:
        """Return whether this store keeps an event."""

    def put_together(
        self, api: str, event: str, rows: Sequence[RecordRow], ids: Sequence[str], *, is_own: bool
    ) -> Future[list[BackendPlace]]:
        """Store events; `is_own`: they were fired by this process, not handed off."""


class Batches:
    """
    Publishes such events: a `BatchPublisher`.

    Args:
        identity: the identity of this process.
        batcher: stores and publishes events of the journal.
        size: checks the size of each event.
        hand_offs: checks events of other processes.
        counts: the publisher's counters: handed_off, repeated.
        handled_by_all: returns a future that is done once every group has handled an event.
        other: the store of events that are not kept in the journal; None if there is none.

    """

    def __init__(
        self,
        identity: Identity,
        batcher: Batcher,
        size: RecordSize,
        hand_offs: HandOffs,
        counts: Counter[str],
        handled_by_all: Callable[[Any, float], Future[None]],
        other: OtherStore | None = None,
    ) -> None:
        self._identity = identity
        self._batcher = batcher
        self._size = size
        self._hand_offs = hand_offs
        self._counts = counts
        self._handled_by_all = handled_by_all
        self._other = other

    def publish(self, messages: Sequence[EventMessage], event: Event) -> Future[list[AnyPlace]]:
        """Publish the events of these messages together, and set the place of each in its message."""
        key, instance = event.key, self._identity.instance
        rows = [
            (record_of(each), None if key is None else key_of(event, each.kwargs), each.published_at, "")
            for each in messages
        ]
        for message in messages:
            message.publisher = instance
        kept = self._publish(messages[0].api_name, event, rows, [each.id for each in messages])
        places: Future[list[AnyPlace]] = Future()
        kept.add_done_callback(partial(_note_places, messages, places))
        return places

    def publish_rows(
        self, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str]
    ) -> Future[list[AnyPlace]]:
        """
        Store events of this process, and queue them for publishing. Thread-safe.

        All are stored with the time of the first. Return the future of their places, or of the last place of each
        topic, which is usually done already; empty for events of best effort. Raises PayloadTooLarge or JournalError;
        then none was stored.
        """
        places: Future[list[AnyPlace]] = Future()
        if event.key is None and event.delivery != "best_effort" and self._store_of(api, event) is None:
            records = [row[0] for row in rows]
            self._size.check_all(f"{api}.{event.name}", records)
            if (newest := self._batcher.append_runs((api, event.name), records, rows[0][2])) is not None:
                places.set_result(list(newest))
                return places
        kept = self._publish(api, event, rows, ids)
        kept.add_done_callback(partial(_pass_on, to=places, made=lambda kept: [place for _, place in kept]))
        return places

    def hand_off(self, batch: Batch, reply: Callable[[AnyMessage], None]) -> None:
        """Publish events for a process that does not; answer once they are stored, or handled if it asks for that."""
        try:
            received = [
                self._hand_offs.received(batch.target, batch.api, batch.event, record) for _, record in batch.rows
            ]
            if not received:
                raise ProtocolError("a batch has no events.")
        except (LightbusException, EventNotFound, ProtocolError) as error:
            self._hand_offs.refuse(error, reply)
            return
        event, now = received[0][0], time.time()
        rows: list[RecordRow] = [
            (data, key if key is not None else key_of(event, kwargs), now, id)
            for (key, _), (_, kwargs, data, id) in zip(batch.rows, received, strict=True)
        ]
        self._counts["handed_off"] += len(rows)
        if event.delivery == "best_effort":
            self._batcher.append_all_live((batch.api, batch.event), rows)
            reply(Accepted("", self._identity.instance))
            return
        try:
            kept = self._keep(batch.api, event, rows, [id for *_, id in rows], is_own=False)
        except LightbusException as error:
            reply(Error(error.code, str(error), False, {"elsewhere": True}))
            return
        kept.add_done_callback(partial(self._answer, batch, reply))

    # Inside

    def _publish(
        self, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str]
    ) -> Future[list[tuple[str, AnyPlace]]]:
        self._size.check_all(f"{api}.{event.name}", [row[0] for row in rows])
        if event.delivery != "best_effort":
            return self._keep(api, event, rows, ids, is_own=True)
        self._batcher.append_all_live((api, event.name), rows)
        nowhere: Future[list[tuple[str, AnyPlace]]] = Future()
        nowhere.set_result([])
        return nowhere

    def _store_of(self, api: str, event: Event) -> OtherStore | None:
        """Return the store that keeps an event; None for the journal."""
        return self._other if self._other is not None and self._other.is_kept_elsewhere(api, event) else None

    def _keep(
        self, api: str, event: Event, rows: Sequence[RecordRow], ids: Sequence[str], *, is_own: bool
    ) -> Future[list[tuple[str, AnyPlace]]]:
        """Store events in the store of their API; return the future of the store and the place of each."""
        kept: Future[list[tuple[str, AnyPlace]]] = Future()
        if (store := self._store_of(api, event)) is not None:
            in_store = partial(_pass_on, to=kept, made=lambda places: [(each.store, each) for each in places])
            store.put_together(api, event.name, rows, ids, is_own=is_own).add_done_callback(in_store)
        else:
            topics, stored = self._batcher.append_all((api, event.name), rows)
            stored.add_done_callback(partial(_pass_on, to=kept, made=partial(self._stored, topics)))
        return kept

    def _stored(self, topics: Sequence[Topic], stored: Sequence[Stored]) -> list[tuple[str, AnyPlace]]:
        """Return the places of events in the journal, and count those that it had before."""
        self._counts["repeated"] += sum(not each[2] for each in stored)
        name = self._batcher.journal_id
        return [(name, (topic, each[0])) for topic, each in zip(topics, stored, strict=True)]

    def _answer(
        self, batch: Batch, reply: Callable[[AnyMessage], None], done: Future[list[tuple[str, AnyPlace]]]
    ) -> None:
        if (error := done.exception()) is not None:
            code = error.code if isinstance(error, LightbusException) else LightbusException.code
            reply(Error(code, str(error), False, {"elsewhere": True}))
            return
        store, last = done.result()[-1]
        accepted = Accepted(native_id(store, sequence_of(last)), self._identity.instance)
        if batch.wait_for == "journal":
            reply(accepted)
            return
        loop = self._batcher.loop
        places = newest_places(place for _, place in done.result())
        waiting = [self._handled_by_all(each, batch.left) for each in places]
        left = len(waiting)

        def handled(future: Future[None]) -> None:
            nonlocal left
            left -= 1
            if not future.cancelled() and future.exception() is not None and left >= 0:
                left = -1  # only one answer
                text = "Not every group has handled the events in time. They are stored, and the groups still get them."
                reply(Error(LightbusTimeout.code, text, True, {}))
            elif left == 0:
                reply(accepted)

        for each in waiting:
            each.add_done_callback(lambda future: loop.call_soon_threadsafe(handled, future))


def _pass_on(done: Future[Any], to: Future[Any], made: Callable[[Any], Any]) -> None:
    """Pass the outcome of one future on to another, unless that was cancelled."""
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
        for message, (store, place) in zip(messages, kept, strict=bool(kept)):  # empty for best effort
            message.native_id = store, sequence_of(place)
        return [place for _, place in kept]

    _pass_on(done, places, noted)
