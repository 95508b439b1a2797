"""Texts for values and types in messages, safe with user classes whose `__str__` or metaclass misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["INTERNAL_ERROR", "OF_LISTENERS", "class_name", "clean", "hint_of_listener", "safely", "with_article"]

INTERNAL_ERROR = "internal error, please report it with this traceback and the output of `lightbus version`"
"""The words of a log line about a failure of the library itself."""


OF_LISTENERS = (
    "listener_name", "group", "concurrency", "max_deliveries", "since", "on_error", "batch", "batch_wait",
)  # fmt: skip
"""What is set for each listener, where it is declared: people look for it in the settings, too."""


def hint_of_listener(key: str) -> str:
    """Return `" Each listener has its own: listen(..., batch=...)."` for one of `OF_LISTENERS`, else an empty text."""
    if key not in OF_LISTENERS:
        return ""
    argument = "bus_options={'since': ...}" if key == "since" else f"{key}=..."
    return f" Each listener has its own: bus.<api>.<event>.listen(..., {argument})."


def safely(show: Callable[[Any], str], value: Any) -> str:
    """Return `show(value)`, where `show` is `str` or `repr`: valid UTF-8 even if the user's class raises or is not."""
    try:
        return show(value).encode(errors="backslashreplace").decode()
    except BaseException as error:
        return f"<{show.__name__.strip('_')}() of {with_article(class_name(value))} raised {class_name(error)}>"


def clean(text: str) -> str:
    """Return text that is safe to print on a terminal: control characters, newlines included, escaped as in Python."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def with_article(name: str) -> str:
    """Return "an int", "a str": for names of types in sentences."""
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def class_name(value: object, *, qualified: bool = False) -> str:
    """Return the name of a value's class, `qualified` with its module, without asking its metaclass."""
    kind = type(value)
    name: str = _NAME.__get__(kind)
    if qualified:
        name = f"{_DICT.__get__(kind).get('__module__', 'builtins')}.{_QUALNAME.__get__(kind)}"
    return name.encode(errors="backslashreplace").decode()


_NAME, _QUALNAME, _DICT = (type.__dict__[name] for name in ("__name__", "__qualname__", "__dict__"))
# Read from `type` itself: the metaclass of a user's class may return anything for these.
