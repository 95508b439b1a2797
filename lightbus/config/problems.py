"""Errors in settings in plain English: which key, where it was set, and what to write instead.

They are made from pydantic's error details; neither its texts nor its links reach the user, nor any value of a
section that holds secrets.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails, ValidationError

from ..exceptions import InvalidConfiguration, did_you_mean
from ..phrases import hint_of_listener
from .layers import KeyPath, Merged

__all__ = ["explain"]

_SENTENCES = {
    "missing": "is missing",
    "bool_parsing": "must be true or false, not {value}",
    "bool_type": "must be true or false, not {value}",
    "float_parsing": "must be a number, not {value}",
    "float_type": "must be a number, not {value}",
    "finite_number": "must be a finite number, not {value}",
    "int_parsing": "must be a whole number, not {value}",
    "int_type": "must be a whole number, not {value}",
    "int_from_float": "must be a whole number, not {value}",
    "string_type": "must be text, not {value}",
    "path_type": "must be a path, not {value}",
    "list_type": "must be a list, not {value}",
    "tuple_type": "must be a list, not {value}",
    "dict_type": "must be a section with keys of its own, not {value}",
    "model_type": "must be a section with keys of its own, not {value}",
    "literal_error": "must be {expected}, not {value}",
    "enum": "must be {expected}, not {value}",
    "greater_than": "must be more than {gt:g}, not {value}",
    "greater_than_equal": "must be at least {ge:g}, not {value}",
    "less_than_equal": "must be at most {le:g}, not {value}",
    "value_error": "{error}",
}
"""Error type of pydantic -> the text for the user: all types that our settings can cause."""

_MAX_SHOWN = 60


def explain(error: ValidationError, model: type[Any], merged: Merged, at: KeyPath = ()) -> InvalidConfiguration:
    """
    Return the error to raise for settings that `model` refused: one of our sections, or the `Config` of a plugin.

    `merged` has the origin of each key; `at` is the path of the section that `model` describes.
    """
    lines = [_line(detail, model, merged, at) for detail in error.errors(include_url=False)]
    if len(lines) == 1:
        return InvalidConfiguration(lines[0])
    return InvalidConfiguration("The configuration has several faults:\n" + "\n".join(f"  - {line}" for line in lines))


def _line(detail: ErrorDetails, model: type[Any], merged: Merged, at: KeyPath) -> str:
    kind, loc, value = detail["type"], detail["loc"], detail["input"]
    path = (*at, *loc)
    origin = merged.origin_of(path)
    subject = f"{_dotted(path)} (from {origin})" if origin else _dotted(path)
    if kind == "extra_forbidden":
        near = _near(str(loc[-1]), value, _keys_at(model, loc[:-1]), _paths(model, at))
        return f"{subject} is not a setting.{near}"
    context = detail.get("ctx", {})
    near = ""
    if kind in ("literal_error", "enum"):
        near = did_you_mean(str(value), re.findall("'([^']*)'", str(context["expected"])))
    sentence = _SENTENCES.get(kind, "cannot be {value}").format(value=_shown(value), **context)
    # `lstrip`: an error of the whole configuration has no key in front.
    return f"{subject} {sentence}.{near}".lstrip()


def _near(key: str, value: Any, known: Iterable[str], paths: Iterable[str]) -> str:
    """Return which key of the section is meant, else where else it belongs, else all keys of the section."""
    names = sorted(known)
    keys = [key, *value] if isinstance(value, dict) else [key]
    hint = next(filter(None, map(hint_of_listener, map(str, keys))), "")
    if near := did_you_mean(key, names) + hint:
        return near
    elsewhere = [(path.rpartition(".")[2], path) for path in paths]
    for nearest in get_close_matches(key, [name for name, _ in elsewhere], n=1):
        meant = [f"'{path}'" for name, path in elsewhere if name == nearest]
        return f" Did you mean {' or '.join(meant)}?"
    return f" There is: {', '.join(names)}."


def _paths(section: Any, at: Sequence[str | int]) -> Iterator[str]:
    """Yield the paths of all settings of a section: `"apis.<name>.rpc_timeout"`."""
    for name, field in section.model_fields.items():
        path, below = (*at, field.alias or name), field.annotation
        if typing.get_origin(below) is dict:
            path, below = (*path, "<name>"), typing.get_args(below)[1]
        if hasattr(below, "model_fields"):
            yield from _paths(below, path)
        else:
            yield _dotted(path)


def _keys_at(model: type[Any], path: KeyPath) -> list[str]:
    """Return the valid keys of the section at `path`."""
    section: Any = model
    for part in path:
        section = _section_below(section, part)
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_below(section: Any, part: str | int) -> Any:
    if typing.get_origin(section) is dict:  # `apis` and `plugins`: every name has the same model
        return typing.get_args(section)[1]
    return next(field.annotation for name, field in section.model_fields.items() if part == (field.alias or name))


def _dotted(path: Sequence[str | int]) -> str:
    """Return `"discovery.peers[1]"`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
