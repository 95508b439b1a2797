"""Python objects -> plain values: how NamedTuples, dataclasses, Enums and objects with `__to_bus__` are sent.

Knows nothing of bytes. The reverse, plain values -> objects, needs annotations and is done in `service`.
"""

from __future__ import annotations

import functools
import json
import math
import reprlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from ..exceptions import DeformError
from ..phrases import with_article

__all__ = ["EXTENSION_TYPES", "MAX_DEPTH", "TOO_DEEP", "explain", "is_carried", "json_form", "shown_form", "to_plain"]

MAX_DEPTH = 500
"""
Levels of nesting that can always be sent. msgpack's C code enforces its own limits: packing fails at about 520 levels
with version 1.1, and at 1025 with 1.2 (most likely a reference cycle); unpacking fails at 1025 with both.
"""

TOO_DEEP = "(It is nested too deeply to be shown.)"
"""The text shown in place of a value that can be sent, and is nested too deeply for JSON."""

EXTENSION_TYPES = frozenset({datetime, date, time, timedelta, UUID, Decimal, complex})
"""Types that JSON does not have and the bus carries without loss."""

_SEQUENCES = frozenset({tuple, set, frozenset})
_PLAIN = EXTENSION_TYPES | {type(None), bool, int, float, str, bytes, list, dict}

# How often the result of a `__to_bus__` may have a `__to_bus__` again.
_MAX_CONVERSIONS = 20

# Longest path that an error shows: one through 500 levels helps nobody.
_MAX_PATH = 200

_NAN_STAND_IN = 0.5  # a number that is not an integer
_REMEDY = (
    "Send a built-in type, a dataclass, a NamedTuple, an Enum or a pydantic model, "
    "or give the class a `__to_bus__` method that returns one of these."
)

# The base value of a subclass, if possible without methods that it may override. The order matters: datetime is a date.
_BASES: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), lambda value: memoryview(value).tobytes()),
    (dict, dict),
    ((list, tuple, set, frozenset), list),
    (datetime, lambda value: datetime.fromisoformat(value.isoformat())),
    (date, lambda value: date(value.year, value.month, value.day)),
    (time, lambda value: time.fromisoformat(value.isoformat())),
    (timedelta, lambda value: timedelta(value.days, value.seconds, value.microseconds)),
    (UUID, lambda value: UUID(int=value.int)),
    (Decimal, Decimal),
    (complex, lambda value: complex(value.real, value.imag)),
)


class _NotCarried(TypeError):
    """The value cannot be sent: what it is, and what to send instead; `explain` adds the path to it."""

    def __init__(self, what: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"{what}. {remedy}")


def _pattern(value: Any) -> Any:
    if sys.modules["re"].compile(value.pattern).flags != value.flags:
        raise _NotCarried("a re.Pattern with flags, which do not travel", "Write them into it, as '(?i)a+'.")
    return value.pattern


def _secret(value: Any) -> Any:
    return value.get_secret_value()


# Classes of modules that take time to import: without the import there can be no value of them. The text of a secret
# is sent unchanged: to protect it on the network, the bus needs a key.
_ELSEWHERE: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("pathlib", "PurePath", str),
    ("collections", "deque", list),
    ("ipaddress", "_IPAddressBase", str),
    *(("pydantic.types", name, _secret) for name in ("SecretStr", "SecretBytes", "Secret")),
    ("pydantic.networks", "_BaseUrl", str),
    ("pydantic.networks", "_BaseMultiHostUrl", str),
    ("pydantic_core", "Url", str),
    ("pydantic_core", "MultiHostUrl", str),
    ("pydantic_core._pydantic_core", "SerializationIterator", list),
    ("fractions", "Fraction", str),
    ("zoneinfo", "ZoneInfo", lambda value: value.key),
    ("re", "Pattern", _pattern),
)


def is_carried(cls: type) -> bool:
    """Return whether values of a class are sent unchanged, or in a form that is defined here."""
    return cls in _PLAIN or any(issubclass(cls, base) for base, _ in (*_BASES, *_elsewhere()))


def _elsewhere() -> Iterator[tuple[type, Callable[[Any], Any]]]:
    for module, name, convert in _ELSEWHERE:
        base = getattr(sys.modules.get(module), name, None)
        if isinstance(base, type):
            yield base, convert


def to_plain(value: Any) -> Any:
    """
    Return `value` as a plain type: None, bool, int, float, str, bytes, list, dict or one of EXTENSION_TYPES.

    The values inside a list or a dict are left unchanged.

    Raises:
        TypeError: it has no plain form. `explain` makes this a DeformError with the path.
        Exception: the error of a user's `__to_bus__`.

    """
    for _ in range(_MAX_CONVERSIONS):
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind in _SEQUENCES:
            return list(value)
        if hasattr(kind, "__to_bus__"):
            value = value.__to_bus__()
        elif isinstance(value, Enum):
            value = value.value
        else:
            value = _plain_structure(value)
    raise _NotCarried(f"{_a(value)} whose `__to_bus__` returns objects with `__to_bus__` without end")


def _plain_structure(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    # There can only be a model if pydantic is imported already.
    model = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    if model is not None and isinstance(value, model):
        return value.model_dump(by_alias=True, round_trip=True)  # for a RootModel this is any value
    for bases in (_BASES, _elsewhere()):
        for base, convert in bases:
            if isinstance(value, base):
                return convert(value)
    kind: Any = type(value)
    adapter = _adapter(kind)
    if adapter is not None:
        return adapter.dump_python(value, mode="json")
    raise _not_carried(value)


def _not_carried(value: Any) -> _NotCarried:
    if isinstance(value, type):
        return _NotCarried(
            f"the class {value.__qualname__}, which cannot be sent", "Send an instance of it, or its name."
        )
    if isinstance(value, (Iterator, AsyncIterator)):
        return _NotCarried(f"{_a(value)}, which cannot be sent", "It is read once: send a list of what it gives.")
    if isinstance(value, Awaitable):
        return _NotCarried(f"{_a(value)}, which cannot be sent", "Await it, and send its result.")
    old_model = getattr(sys.modules.get("pydantic.v1.main"), "BaseModel", None)
    if old_model is not None and isinstance(value, old_model):
        return _NotCarried(
            f"{_a(value)}, a model of pydantic.v1", "Derive it from pydantic.BaseModel, or send .dict()."
        )
    return _NotCarried(f"{_a(value)}, which cannot be sent")


@functools.lru_cache(maxsize=256)
def _adapter(kind: type) -> Any:
    """Return pydantic's adapter for a class that defines its own pydantic schema, else None."""
    if not hasattr(kind, "__get_pydantic_core_schema__"):
        return None
    try:
        return sys.modules["pydantic"].TypeAdapter(kind)
    except Exception:  # that method of the user's class may raise anything: treat the class as unknown
        return None


def json_form(value: Any, *, finite: bool = False) -> Any:
    """
    Return `value` in JSON types only, as JSON Schema describes it: dates, UUIDs, Decimals and bytes are strings.

    Arguments:
        value: anything the bus carries.
        finite: replace NaN and the infinities, which JSON does not have, by ordinary numbers.

    Raises:
        DeformError: a part of it has no plain form; the message gives the path to that part.

    """
    try:
        return _json(value, finite)
    except Exception as error:  # a user's `__to_bus__` may raise anything
        raise explain(value, error) from error


def shown_form(value: Any) -> Any:
    """
    Return a value for readers: as `json_form` with finite numbers, or `TOO_DEEP` if JSON has no form for it.

    An event that is nested too deeply must not keep anybody from seeing the others.
    """
    try:
        return json_form(value, finite=True)
    except DeformError:
        return TOO_DEEP


def _json(value: Any, finite: bool) -> Any:
    plain = to_plain(value)
    if isinstance(plain, dict):
        return {_json_key(key): _json(part, finite) for key, part in plain.items()}
    if isinstance(plain, list):
        return [_json(part, finite) for part in plain]
    if isinstance(plain, float) and finite and not math.isfinite(plain):
        return _NAN_STAND_IN if math.isnan(plain) else math.copysign(sys.float_info.max, plain)
    if isinstance(plain, bytes):
        return plain.decode("utf-8", "backslashreplace")
    return _json_text(plain) if type(plain) in EXTENSION_TYPES else plain


def _json_key(key: Any) -> str:
    form = _json(key, False)
    return form if isinstance(form, str) else json.dumps(form)


def _json_text(value: Any) -> str:
    if isinstance(value, (date, time)):  # datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        microseconds = value // timedelta(microseconds=1)
        seconds, rest = divmod(abs(microseconds), 1_000_000)
        return f"{'-' if microseconds < 0 else ''}PT{seconds}{f'.{rest:06}' if rest else ''}S"
    return str(value).strip("()")  # only a complex number has parentheses


def explain(
    value: Any,
    error: Exception,
    *,
    name: str = "value",
    names: Sequence[str] = (),
    check: Callable[[Any], object] = to_plain,
) -> DeformError:
    """
    Return the DeformError that names the part of `value` that caused `error`.

    This walks through the whole value again, so that encoding without errors need not keep track of the path.

    Arguments:
        value: the value that could not be sent.
        error: the error that was raised.
        name: the name of the value in the message.
        names: the names of its items in the message, if `value` is a list.
        check: raises for a plain value that cannot be sent, because of its size for example.

    """
    waiting: list[tuple[Any, str, int]] = [(value, name, 0)]
    while waiting:
        part, path, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return DeformError(f"{_elided(path)} is nested deeper than {MAX_DEPTH} levels: is there a reference cycle?")
        try:
            plain = _checked(part, check)
        except Exception as cause:
            return DeformError(f"{_elided(path)} is {_reason(part, cause)}")
        children = [*_children(plain, path, () if depth else names)]
        waiting.extend((child, child_path, depth + 1) for child, child_path in reversed(children))
    return DeformError(f"{name} cannot be sent: {type(error).__name__}: {error}")


def _checked(part: Any, check: Callable[[Any], object]) -> Any:
    plain = to_plain(part)
    check(plain)
    for key in plain if type(plain) is dict else ():
        plain_key = to_plain(key)
        if type(plain_key) in (list, dict):
            what = f"a dict with the key {reprlib.repr(key)}, {_a(key)}, where a scalar is wanted"
            raise _NotCarried(what, "Send a list of pairs, of key and value.")
        check(plain_key)
    return plain


def _children(plain: Any, path: str, names: Sequence[str]) -> Iterator[tuple[Any, str]]:
    if type(plain) is list:
        for index, part in enumerate(plain):
            yield part, names[index] if index < len(names) else f"{path}[{index}]"
    elif type(plain) is dict:
        for key, part in plain.items():
            named = isinstance(key, str) and key.isidentifier()
            yield part, f"{path}.{key}" if named else f"{path}[{reprlib.repr(key)}]"


def _reason(part: Any, cause: Exception) -> str:
    if isinstance(cause, _NotCarried):
        return str(cause)
    if isinstance(cause, UnicodeEncodeError):
        remedy = " Send its bytes: text.encode('utf-8', 'surrogateescape')."
    else:
        remedy = ""
    return f"{_a(part)} that cannot be sent: {type(cause).__name__}: {str(cause).rstrip('.')}.{remedy}"


def _elided(path: str) -> str:
    return path if len(path) <= _MAX_PATH else f"{path[: _MAX_PATH // 2]} ... {path[-_MAX_PATH // 2 :]}"


def _a(value: Any) -> str:
    return with_article(f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins."))
