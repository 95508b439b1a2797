"""
The forms of workers' answers about themselves (`internal.peer`, `internal.events`), checked like messages.

Commands, the dashboard and other workers read these answers. They are untrusted, too: one worker of another version,
or a malicious one, must not prevent users from seeing the others. No I/O.

A form is a check (`fields.py`), a type with its check, or made of forms: `[form]` is a list of such items, `{"name":
form}` a map with at least these names (those that end with `?` may be missing), `{...: form}` a map from any text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any, TypeAlias

from ..exceptions import ProtocolError
from . import field_types, fields

__all__ = ["ANSWERS", "checked_answer", "mismatch"]

AnswerForm: TypeAlias = Any

MAX_SHOWN = 100
"""Most characters of the path in the error for an answer that does not fit."""

_text = fields.prose(1024 * 1024)
_count = fields.whole(0, fields.MAX_INT)
_number = fields.number(-(2**63), 2**63)
_maybe = fields.optional


def _place(value: Any) -> bool:
    """Accept a native id: a journal and a sequence."""
    if type(value) is not str or len(value) > 40:
        return False
    journal, _, sequence = value.rpartition("-")
    return fields.instance_id(journal) and sequence.isascii() and sequence.isdigit()


_LISTENER: AnswerForm = {"api": _text, "events": [_text], "name": _text, "group?": _maybe(_text)}

_EVENT: AnswerForm = {
    "id": _text, "native_id": _place, "api": _text, "event": _text, "version": _count,
    "published_at": fields.moment, "kwargs": fields.is_arguments,
    "partition?": field_types.PartitionNumber, "size?": _count,
    "only_group?": _text,
}  # fmt: skip

_CALL: AnswerForm = {
    "number": _count, "at": fields.moment, "seconds": _number, "caller": _text, "caller_service": _text, "api": _text,
    "procedure": _text, "kwargs": _maybe(fields.is_arguments), "kwargs_bytes": _count, "result": fields.anything,
    "result_bytes": _count, "error": _maybe(_text), "message": _maybe(_text), "cut": [_text],
}  # fmt: skip

_STATS: AnswerForm = {
    "uptime?": _number, "running": _count, "queued": _count, "concurrency": _count, "connected?": _count,
    "clients?": {...: _count},
    "refused_connections?": {...: _count}, "dropped_answers?": _count, "calls?": {...: _count},
    "procedures": [{
        "api": _text, "procedure": _text, "calls": _count, "errors": _count, "p50": _maybe(_number),
        "p99": _maybe(_number), "callers": {...: _count},
        "caller_errors?": {...: _count}, "caller_p99?": {...: _number},
    }],
    "events": [{"api": _text, "event": _text, "published": _count, "bytes?": _count}],
    "listeners": [{
        "name": _text, "api": _text, "events": [_text], "handled": {...: _count}, "waiting": _count,
        "failed_by?": {...: _count}, "delay_p99?": {...: {...: _number}},
        "stopped?": _maybe(_text), "failed": _count, "dropped": _count, "retried?": _count, "invalid?": _count,
    }],
}  # fmt: skip

_GROUP: AnswerForm = {
    "api": _text, "name": _text, "events": [_text], "created_at": _number, "last_seen": _number, "clock": _number,
    "members": {...: field_types.Partitions}, "acks?": _count, "mixed": fields.flag, "lag": _count, "dead": _count,
    "lost": _count,
}  # fmt: skip

_JOURNAL: AnswerForm = {
    "journal": field_types.JournalId, "path": _text, "head?": _count, "events": _count, "bytes": _count,
    "max_events": _count, "max_bytes": _count,
    "lost": [{"group": _text, "api": _text, "event": _text, "count": _count, "at?": _maybe(_number)}],
}  # fmt: skip

_MEMBER: AnswerForm = {"name": _text, "signature": _text}

ANSWERS: Mapping[str, Mapping[str, AnswerForm]] = {
    "internal.peer": {
        "ping": _number,
        "info": {
            "service": _text, "process": _text, "host": _text, "pid": _count, "version": _text, "features": [_text],
            "started_at": _number, "uptime?": _number, "listeners": [_LISTENER],
        },
        "stats": _STATS,
        "health": {"problems": [_text], "losses?": [_text], "refused?": [_text]},
        "watch_calls": {"calls": [_CALL], "noted": _count},
        "schema": {
            "rpcs?": {...: {"parameters": fields.anything, "response": fields.anything}},
            "events?": {...: {"parameters": fields.anything}},
        },
        "describe": {
            "api": _text, "version": _count, "doc": _text, "procedures": [{**_MEMBER, "doc": _text}],
            "events": [{**_MEMBER, "version": _count, "key": _maybe(_text), "delivery": _text}],
        },
    },
    "internal.events": {
        "groups": [_GROUP],
        "lag": _maybe(_count),
        "dead": [{**_EVENT, "group": _text, "deliveries": _count, "error": _text, "died_at": _number}],
        "retry_dead_events": [_text],
        "drop_dead_events": [_text],
        "history": [_EVENT],
        "kept": _maybe(lambda page: not mismatch({"events": [_EVENT], "through": _count, "more": fields.flag}, page)),
        "latest": _maybe(lambda page: not mismatch({"events": [_EVENT], "before": _maybe(_count)}, page)),
        "handled": {...: {...: _text}},
        "journals": [_JOURNAL],
    },
}  # fmt: skip
"""The forms by API and procedure. Procedures that this library does not call at other workers are not checked."""


def checked_answer(api: str, procedure: str, answer: Any, who: object) -> Any:
    """Return an answer of `who`. Raises ProtocolError if it is not in the form of such an answer."""
    form = ANSWERS.get(api, {}).get(procedure)
    if form is not None and (where := mismatch(form, answer)):
        raise ProtocolError(
            f"{who} sent an invalid answer to {api}.{procedure}: its {where}. Is it of another version of Lightbus?"
        )
    return answer


def mismatch(form: AnswerForm, value: Any, path: str = "answer") -> str:
    """Return which part of a value does not fit a form, with its path; empty if all fits."""
    if isinstance(form, list):
        return _list_mismatch(form[0], value, path)
    if isinstance(form, Mapping):
        return _map_mismatch(form, value, path)
    check: Callable[[Any], bool] = fields.check_of(form)
    return "" if check(value) else f"{path[:MAX_SHOWN]} is of the type {type(value).__name__}, or out of its range"


def _list_mismatch(form: AnswerForm, value: Any, path: str) -> str:
    if type(value) is not list:
        return f"{path[:MAX_SHOWN]} is not a list"
    for index, each in enumerate(value):
        if found := mismatch(form, each, f"{path}[{index}]"):
            return found
    return ""


def _map_mismatch(form: Mapping[str | EllipsisType, AnswerForm], value: Any, path: str) -> str:
    if not fields.is_arguments(value):
        return f"{path[:MAX_SHOWN]} is not a map of names"
    for name, part in form.items():
        if isinstance(name, EllipsisType):
            found = next(filter(None, (mismatch(part, each, f"{path}.*") for each in value.values())), "")
        elif (key := name.removesuffix("?")) in value:
            found = mismatch(part, value[key], f"{path}.{key}")
        else:
            found = "" if name.endswith("?") else f"{path[:MAX_SHOWN]} has no '{name}'"
        if found:
            return found
    return ""
