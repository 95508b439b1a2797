"""The journal rows of events fired together by their own publisher, made without an EventMessage for each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from ..config import ApiSettings
from ..engine.engine import Engine
from ..events.event_record import RECORD_FIELDS, RecordRow, cannot_be_sent, key_of
from ..exceptions import DeformError, InvalidEventArguments, LightbusException
from ..service.api import Event
from ..tracing import Trace
from ..typing import Kwargs
from ..wire import codec

__all__ = ["not_arguments", "note_number", "rows_of"]


def rows_of(
    engine: Engine, api_name: str, event: Event, events: Sequence[Kwargs], settings: ApiSettings, trace: Trace | None
) -> tuple[list[str], list[RecordRow]]:
    """Return the ids of events, and their rows. Raises the error of the first invalid event."""
    signature, key, version = event.signature, event.key, event.version or 1
    fill_defaults, passes, validates = signature.fill_defaults, signature.passes, settings.validation.outgoing
    next_id, at = engine.event_ids.next, time.time()
    behind = [] if trace is None else [trace]
    ids: list[str] = []
    rows: list[RecordRow] = []
    # The usual case: all events are checked together, in loops in C, and none needs work of its own.
    is_plain = validates and not signature.optional and set(map(type, events)) == {dict} and signature.all_pass(events)
    if is_plain and key is None:
        ids = engine.event_ids.several(len(events))
        with contextlib.suppress(DeformError):  # the loop below finds which event is invalid
            fields = [[id, version, at, kwargs, *behind] for id, kwargs in zip(ids, events, strict=True)]
            return ids, [(record, None, at, "") for record in codec.encode_all(fields, names=RECORD_FIELDS)]
        ids = []
    try:
        for kwargs in events:
            if not is_plain:
                if type(kwargs) is not dict:
                    kwargs = _as_dict(f"{api_name}.{event.name}", kwargs)
                kwargs = fill_defaults(kwargs)
                if validates and not passes(kwargs):
                    signature.validate(kwargs)
            id = next_id()
            record = codec.encode([id, version, at, kwargs, *behind], names=RECORD_FIELDS)
            ids.append(id)
            rows.append((record, None if key is None else key_of(event, kwargs), at, ""))
    except DeformError as error:
        failed = cannot_be_sent(f"{api_name}.{event.name}", error)
        note_number(failed, len(rows), len(events))
        raise failed from None
    except LightbusException as error:
        note_number(error, len(rows), len(events))
        raise
    return ids, rows


def note_number(error: LightbusException, number: int, count: int) -> None:
    """Add a note to an error that says which of the events is invalid."""
    error.add_note(f"It is number {number} of {count} that were to be fired together: none was.")


def not_arguments(what: str, given: object) -> InvalidEventArguments:
    """Return the error for a value that cannot be the arguments of an event."""
    return InvalidEventArguments(
        f"{what}.fire_many() was given {given!r:.100}. It takes the arguments of each event as a dict: "
        f"[{{'name': value}}, ...], or what yields such dicts."
    )


def _as_dict(what: str, kwargs: object) -> Kwargs:
    if not isinstance(kwargs, Mapping):
        raise not_arguments(what, kwargs)
    return {**kwargs}
