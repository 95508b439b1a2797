"""Stored events as plain values, for the answers of `history`, `dead`, `inspect` and the pages of a store."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..exceptions import ProtocolError
from ..recurring import RecurringLog
from ..wire import envelope
from ..wire.envelope import Record
from .event_record import native_id

__all__ = ["DAMAGED", "id_of", "readable", "record_or_damaged", "serialize_kept_event"]

logger = logging.getLogger("lightbus.events")
_recurring = RecurringLog(logger)

DAMAGED = Record("", 0, 0.0, {})
"""Replaces an event that cannot be decoded; its id is empty, which no fired event's is."""


def serialize_kept_event(
    store: str, api: str, event: str, partition: int, sequence: int, data: bytes
) -> dict[str, Any]:
    """Return a stored event as plain values. A damaged one has an empty id, time 0 and no arguments."""
    try:
        record = envelope.decode_record(data)
    except ProtocolError as error:
        record = DAMAGED
        _recurring.log(
            (store, api),
            logging.WARNING,
            "The event %s.%s at %s-%s is damaged, and left out where kept events are shown: %s",
            api, event, store, sequence, error,
            changes=False,
        )  # fmt: skip
    return {
        "id": record.id,
        "native_id": native_id(store, sequence),
        "api": api,
        "event": event,
        "partition": partition,
        "version": record.version,
        "published_at": record.published_at,
        "kwargs": record.kwargs,
        "size": len(data),
    }


def readable(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that are not damaged."""
    return [each for each in events if each["id"]]


def record_or_damaged(data: bytes) -> Record:
    """Return a decoded event; `DAMAGED` if it cannot be decoded."""
    try:
        return envelope.decode_record(data)
    except ProtocolError:
        return DAMAGED


def id_of(data: bytes) -> str:
    """Return the id of an event; empty if it cannot be decoded."""
    return record_or_damaged(data).id
