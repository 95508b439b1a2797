"""How values and their types are named in sentences, whatever the user's own classes make of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["INTERNAL_ERROR", "class_name", "clean", "safely", "with_article"]

INTERNAL_ERROR = "internal error, please report it with this traceback and the output of `lightbus version`"
"""What a log line says of a failure that is in the library itself, whatever the user did."""


def safely(show: Callable[[Any], str], value: Any) -> str:
    """Return `show(value)`, fit to be sent: `str` or `repr` of something of the user's may raise, or be no UTF-8."""
    try:
        return show(value).encode(errors="backslashreplace").decode()
    except BaseException as error:
        return f"<{show.__name__.strip('_')}() of {with_article(class_name(value))} raised {class_name(error)}>"


def clean(text: str) -> str:
    """Return text as a terminal may show it: control characters, a newline included, as Python writes them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def with_article(name: str) -> str:
    """Return "an int", "a str": for names of types in sentences."""
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def class_name(value: object, *, qualified: bool = False) -> str:
    """Return the name of a value's class, with its module where that is asked for, whatever its metaclass says."""
    kind = type(value)
    name: str = _NAME.__get__(kind)
    if qualified:
        name = f"{_DICT.__get__(kind).get('__module__', 'builtins')}.{_QUALNAME.__get__(kind)}"
    return name.encode(errors="backslashreplace").decode()


_NAME, _QUALNAME, _DICT = (type.__dict__[name] for name in ("__name__", "__qualname__", "__dict__"))
# The metaclass of a stranger's class may answer for these with anything.
