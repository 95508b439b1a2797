"""The description of an Api for people: signatures in Python's notation, and the docstrings."""

from __future__ import annotations

import inspect
from typing import Any

from .api import Api
from .declared import Event, Procedure

__all__ = ["describe_api"]

MAX_DOC = 4_000
"""Most characters of a docstring that are shown."""


def describe_api(api: Api) -> dict[str, Any]:
    """Return an Api's name, version and docstring, its procedures and its events, in plain values."""
    return {
        "api": api.meta.name,
        "version": api.meta.version,
        "doc": _doc(type(api).__doc__),
        "procedures": [_procedure(each) for each in api.procedures.values()],
        "events": [_event(each) for each in api.events.values()],
    }


def _procedure(procedure: Procedure) -> dict[str, Any]:
    return {
        "name": procedure.name,
        "signature": procedure.signature.describe(),
        "doc": _doc(procedure.function.__doc__),
        "async": procedure.is_async,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "signature": event.signature.describe(),
        "version": event.version,
        "key": event.key,
        "delivery": event.delivery,
    }


def _doc(text: str | None) -> str:
    return inspect.cleandoc(text)[:MAX_DOC] if isinstance(text, str) else ""
