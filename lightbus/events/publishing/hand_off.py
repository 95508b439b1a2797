"""Events that are handed off to a publisher by processes that do not publish themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from ...adapters.sqlite.journal import Stored
from ...adapters.sqlite.topic import Topic
from ...exceptions import (
    EventNotFound,
    JournalError,
    LightbusException,
    LightbusTimeout,
    PeerRefused,
    ProtocolError,
)
from ...membership.context import Identity
from ...service.api import ApiRegistry, Event
from ...wire import envelope
from ...wire.envelope import Accepted, AnyMessage, Error, Fire
from ..event_record import key_of, native_id
from ..groups.ack_waiters import OnHandled
from .batcher import Batcher
from .record_size import RecordSize

__all__ = ["HandOffs", "WhenHandled"]

WhenHandled: TypeAlias = Callable[[Topic, int, float, OnHandled], None]
"""Calls back once every group has handled an event of our own journal; gives up after some seconds."""

Reply: TypeAlias = Callable[[AnyMessage], None]


class HandOffs:
    """
    Publishes such events, and answers. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        apis: the APIs whose events may be fired.
        batcher: stores and publishes the events.
        size: checks their size.
        when_handled: calls back once all groups have handled an event of our own journal.
        counts: the publisher's counters: handed_off, repeated, refused.
        validates: returns whether events of an API are validated against its schema.

    """

    def __init__(
        self,
        identity: Identity,
        apis: ApiRegistry,
        batcher: Batcher,
        size: RecordSize,
        when_handled: WhenHandled,
        counts: Counter[str],
        validates: Callable[[str], bool] = lambda api: True,
    ) -> None:
        self._validates = validates
        self._identity = identity
        self._apis = apis
        self._batcher = batcher
        self._size = size
        self._when_handled = when_handled
        self._counts = counts

    def take(self, fire: Fire, reply: Reply) -> None:
        """Publish an event for a process that does not; answer once it is stored, or handled if it asks for that."""
        try:
            event, kwargs, data, id = self.received(fire.target, fire.api, fire.event, fire.record)
        except (LightbusException, EventNotFound, ProtocolError) as error:
            self.refuse(error, reply)
            return
        key = fire.key if fire.key is not None else key_of(event, kwargs)
        names = fire.api, fire.event
        self._counts["handed_off"] += 1
        if event.delivery == "best_effort":
            self._batcher.append_live(names, data, key)
            reply(Accepted("", self._identity.instance))
            return
        try:
            waiter = partial(self._answer, fire, reply)
            topic, stored = self._batcher.append(names, data, key, time.time(), id, fire, waiter)
        except JournalError as error:
            reply(_not_stored(error))
            return
        if stored is not None:
            self._answer(fire, reply, topic, stored)

    def refuse(self, error: LightbusException, reply: Reply) -> None:
        """Answer that an event cannot be published."""
        self._counts["refused"] += 1
        details = {"elsewhere": True} if isinstance(error, PeerRefused) else {}
        reply(Error(error.code, str(error), False, details))

    def received(self, target: str, api: str, name: str, record: bytes) -> tuple[Event, dict[str, Any], bytes, str]:
        """
        Return the event that was handed off, its arguments, its record and its id.

        Raises PeerRefused, EventNotFound, InvalidArguments, PayloadTooLarge, ProtocolError.
        """
        if target != self._identity.instance:
            raise PeerRefused(f"the event was meant for the instance {target}, and this is {self._identity}.")
        event = self._apis.get(api).get_event(name)
        kwargs, data, id = _completed(event, record, validates=self._validates(api))
        self._size.check(f"{api}.{name}", data)
        return event, kwargs, data, id

    def _answer(self, fire: Fire, reply: Reply, topic: Topic, stored: Stored | JournalError) -> None:
        if isinstance(stored, JournalError):
            reply(_not_stored(stored))
            return
        if not stored.is_new:
            self._counts["repeated"] += 1
        accepted = Accepted(native_id(self._batcher.journal_id, stored.sequence), self._identity.instance)
        if fire.wait_for == "ack":

            def answer(error: LightbusTimeout | None) -> None:
                reply(accepted if error is None else Error(error.code, str(error), True, {}))

            self._when_handled(topic, stored.sequence, fire.left, answer)
        else:
            reply(accepted)


def _not_stored(error: JournalError) -> Error:
    return Error(error.code, str(error), False, {"elsewhere": True})


def _completed(event: Event, data: bytes, *, validates: bool) -> tuple[dict[str, Any], bytes, str]:
    """Return arguments, record and id of an event, with the defaults that a sender without the Api class left out."""
    record = envelope.decode_record(data)
    kwargs = event.signature.fill_defaults(record.kwargs)
    if validates:
        event.signature.validate(kwargs)
    if kwargs is record.kwargs and record.version == event.version:
        return kwargs, data, record.id
    return kwargs, envelope.encode_record(record._replace(kwargs=kwargs, version=event.version)), record.id
