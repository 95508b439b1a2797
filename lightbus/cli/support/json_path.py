"""
Search values inside an event's arguments by a path: `address.city=London`, `items[*].price>=9.5`.

A subset of JSONPath, without filters: names, `[0]`, `['a name']`, `*` and `[*]` for all elements, `..name` at any
depth, an optional leading `$`.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["COMPARATORS", "JsonSearch", "find", "parse_path", "parse_search"]

COMPARATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
"""Longer ones first: `<` is a prefix of `<=`."""

STEP = re.compile(
    r"""(?P<deep>\.\.)? \.? (?: \[ \s* (?: (?P<index>-?\d+) | (?P<each>\*) | (?P<quote>['"])(?P<quoted>.*?)(?P=quote) )
        \s* \] | (?P<all>\*) | (?P<name>[^.\[\]*'"]+) )""",
    re.VERBOSE,
)

Step = tuple[bool, str | int | None]
"""Whether it matches at any depth, and a name, an index, or None for all elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSearch:
    """
    A path, and a condition on the values there.

    Attributes:
        path: the steps to the value.
        comparator: one of `COMPARATORS`; empty to accept any value.
        text: the text to compare with.

    """

    path: tuple[Step, ...]
    comparator: str = ""
    text: str = ""

    def matches(self, value: Any) -> bool:
        """Return whether any of the values at the path satisfies the condition. `value` has JSON types only."""
        found = find(value, self.path)
        return any(not self.comparator or self._compares(each) for each in found)

    def _compares(self, found: Any) -> bool:
        """Compare a string with the text itself, any other value with the text parsed as JSON."""
        wanted: Any = self.text if isinstance(found, str) else _meaning(self.text)
        if isinstance(found, bool) or isinstance(wanted, bool):  # in Python True == 1, in JSON not
            same = isinstance(found, bool) and isinstance(wanted, bool) and found == wanted
            return {"=": same, "==": same, "!=": not same}.get(self.comparator, False)
        try:
            return COMPARATORS[self.comparator](found, wanted)
        except TypeError:  # a number and a string cannot be ordered
            return False


def parse_search(text: str) -> JsonSearch:
    """Parse a path, optionally with a comparator and a value. Raises ValueError for an invalid path."""
    path, comparator, value = re.fullmatch(r"(.*?)(?:(<=|>=|!=|==|=|<|>)(.*))?", text, re.DOTALL).groups("")  # type: ignore[union-attr]
    return JsonSearch(path=parse_path(path.strip()), comparator=comparator, text=value.strip())


def parse_path(text: str) -> tuple[Step, ...]:
    """Parse a path into steps. Raises ValueError for an invalid path."""
    steps: list[Step] = []
    rest = text.removeprefix("$")
    while rest:
        step = STEP.match(rest)
        if step is None:
            raise ValueError(f"'{text}' is not a path: at '{rest}' there should be a name, [0], [*] or ['a name']")
        name: str | int | None = step["quoted"] if step["quote"] else step["name"]
        if step["index"] is not None:
            name = int(step["index"])
        steps.append((step["deep"] is not None, name))
        rest = rest[step.end() :]
    if not steps:
        raise ValueError(f"'{text}' is not a path: it names no value. Write for example address.city")
    return tuple(steps)


def find(value: Any, path: tuple[Step, ...]) -> Iterator[Any]:
    """Yield all values at a path."""
    if not path:
        yield value
        return
    (deep, name), rest = path[0], path[1:]
    for place in _everything_in(value) if deep else [value]:
        for child in _children(place, name):
            yield from find(child, rest)


def _everything_in(value: Any) -> Iterator[Any]:
    yield value
    for child in _children(value, None):
        yield from _everything_in(child)


def _children(value: Any, name: str | int | None) -> list[Any]:
    if isinstance(value, dict):
        if name is None:
            return [*value.values()]
        return [value[name]] if name in value else []
    if isinstance(value, list):
        if name is None:
            return value
        if isinstance(name, int) and -len(value) <= name < len(value):
            return [value[name]]
    return []


def _meaning(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
