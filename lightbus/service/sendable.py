"""Which annotations have values that can be sent: others are refused at registration.

Nothing is imported for this: a model can only exist if pydantic is imported already.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, NewType, NotRequired, Required, Self, TypeVar, is_typeddict

from ..exceptions import DeformError, InvalidDeclaration
from ..phrases import with_article
from ..wire.codec import encode
from ..wire.plain import is_carried
from .api import Api
from .execution import is_generator
from .parameters import annotation_text, empty
from .signature import Signature

__all__ = ["check_sendable", "why_not_sendable"]

_ANY = (Any, object, None, type(None), ..., empty)
_AS_A_CLASS = "Make it a dataclass or a pydantic model, or give it `__to_bus__` and `__from_bus__`"
_AS_DECODED = (
    "outside of a pydantic model it is decoded when it arrives, and never encoded: write what it is decoded to"
)
_AS_A_LIST = "it is read once, and by one reader: write list[...]"
_A_VIEW = "a view of a dict cannot be sent: write list[...]"
_SELF = "it stands for the Api itself, which cannot be sent"
_OPEN_TUPLE = (
    "a tuple with a part of any length in it cannot be recognised when it arrives: write tuple[int, ...], or a class"
)
_READ_ONCE = tuple(
    getattr(collections.abc, name)
    for name in ("Iterator", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator", "Awaitable", "Coroutine")
)
_VIEWS = (collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView)
_CARRIED_COLLECTIONS = (collections.deque, collections.OrderedDict, collections.defaultdict, collections.Counter)
_WRAPPERS = (Required, NotRequired, typing.Final, typing.ClassVar)
_SCALARS_ONLY = "and on the bus a key is text, a number, a date or another single value: write list[tuple[key, value]]"


def check_sendable(api: Api) -> None:
    """
    Check that values of the parameters and results of an Api can be sent, by their annotations.

    Raises:
        InvalidDeclaration: values of a parameter or result cannot be sent, or a procedure is a generator.

    """
    for name, procedure in api.procedures.items():
        if is_generator(procedure.function):
            raise InvalidDeclaration(
                f"{api.meta.name}.{name} has a `yield` in it, so that calling it runs nothing of it, and what it "
                "returns is read once and by one reader. Return a list; or fire an event for each part."
            )
    signatures = [each.signature for each in api.procedures.values()] + [each.signature for each in api.events.values()]
    for signature in signatures:
        for what, annotation in _annotations(signature):
            why = why_not_sendable(annotation)
            if why is not None:
                text = annotation_text(annotation)
                raise InvalidDeclaration(
                    f"{api.meta.name}.{signature.name}: {what} is annotated with {text}, and {why}."
                )


def why_not_sendable(annotation: Any) -> str | None:
    """Return why values of an annotation cannot be sent and received; None if they can, or if that is unknown."""
    return _Walk().reason(annotation)


def _annotations(signature: Signature) -> Iterator[tuple[str, Any]]:
    for each in (*signature.parameters, *((signature.wildcard,) if signature.wildcard else ())):
        yield f"'{each.name}'", each.annotation
    yield "the result", signature.returns


class _Walk:
    """One check of an annotation, in which each class is checked once within models, and once elsewhere."""

    def __init__(self) -> None:
        self._seen: set[Any] = set()
        self._inside = 0
        """The number of enclosing classes whose fields pydantic reads itself."""
        self._in_models = 0
        """The number of enclosing models, whose fields pydantic writes, too."""

    def reason(self, annotation: Any) -> str | None:
        if any(annotation is each for each in _ANY) or isinstance(annotation, (str, TypeVar, typing.ForwardRef)):
            return None
        if isinstance(annotation, NewType):
            return self.reason(annotation.__supertype__)
        if annotation is Self:
            return None if self._inside else _SELF
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            if not self._in_models and any(_is_decoded(each) for each in annotation.__metadata__):
                return _AS_DECODED
            own_say = any(_is_of_pydantic(each) for each in annotation.__metadata__)
            return None if own_say else self.reason(arguments[0])
        if origin is Literal:
            return self._first(_why_no_value(value) for value in arguments)
        if origin is None or not arguments:
            return self._class_reason(annotation if origin is None else origin)
        if origin in _WRAPPERS or origin in (typing.Union, types.UnionType):
            return self._first(self.reason(each) for each in arguments)
        return self._generic_reason(origin, arguments)

    def _generic_reason(self, origin: Any, arguments: tuple[Any, ...]) -> str | None:
        if origin is collections.abc.Callable or origin is type or origin in (*_READ_ONCE, *_VIEWS):
            return self._class_reason(origin)
        if any(getattr(each, "__unpacked__", False) or typing.get_origin(each) is typing.Unpack for each in arguments):
            return _OPEN_TUPLE
        own = None if not isinstance(origin, type) or _is_container(origin) else self._class_reason(origin)
        if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
            own = own or self._key_reason(arguments[0])
            arguments = arguments[1:]
        return own or self._first(self.reason(each) for each in arguments)

    def _key_reason(self, key: Any) -> str | None:
        origin = typing.get_origin(key)
        if origin is Annotated:
            return self._key_reason(typing.get_args(key)[0])
        if origin in (typing.Union, types.UnionType):
            return self._first(self._key_reason(each) for each in typing.get_args(key))
        kind = key if origin is None else origin
        if isinstance(kind, type) and not hasattr(kind, "__to_bus__"):
            many = issubclass(kind, (tuple, frozenset)) or dataclasses.is_dataclass(kind) or _is_model(kind)
            if many or (issubclass(kind, Enum) and any(_is_many(member.value) for member in kind)):
                return f"a dict has keys of {annotation_text(key)}, {_SCALARS_ONLY}"
        return self.reason(key)

    def _class_reason(self, cls: Any) -> str | None:
        if cls is collections.abc.Callable:
            return "a function cannot be sent"
        if cls is type:
            return "a class cannot be sent: send its name"
        if cls in _READ_ONCE or cls in _VIEWS:
            return _AS_A_LIST if cls in _READ_ONCE else _A_VIEW
        key = cls, self._in_models > 0
        if not isinstance(cls, type) or key in self._seen:
            return None
        self._seen.add(key)
        if hasattr(cls, "__to_bus__") or hasattr(cls, "__from_bus__"):
            return None
        if issubclass(cls, (bytearray, memoryview)):
            return "it arrives as bytes: write bytes"
        if _is_decoded(cls) and not self._in_models:
            return _AS_DECODED
        if _is_of_pydantic(cls) and cls.__name__ == "ImportString":
            return "what it imports cannot be sent: send its name"
        if issubclass(cls, Enum):
            return self._first(_why_no_value(member) for member in cls)
        if _is_model(cls):
            return _why_not_mirrored(cls) or self._model_fields(cls)
        if is_typeddict(cls) or dataclasses.is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
            if self._inside and _is_old_typed_dict(cls):
                return f"{cls.__qualname__} is a TypedDict of `typing`: on Python 3.11 take `typing_extensions`'s"
            return self._fields(_hints(cls), cls)
        if (
            is_carried(cls)
            or _is_container(cls)
            or hasattr(cls, "__get_pydantic_core_schema__")
            or _is_of_pydantic(cls)
        ):
            return None
        return f"{with_article(annotation_text(cls))} cannot be sent. {_AS_A_CLASS}"

    def _model_fields(self, model: Any) -> str | None:
        self._in_models += 1
        try:
            return self._fields({name: field.annotation for name, field in model.model_fields.items()}, model)
        finally:
            self._in_models -= 1

    def _fields(self, hints: Mapping[str, Any], cls: type) -> str | None:
        inside = not _is_old_typed_dict(cls)
        self._inside += inside
        try:
            reasons = ((name, self.reason(hint)) for name, hint in hints.items())
            return next((f"of its part {cls.__qualname__}.{name}, {why}" for name, why in reasons if why), None)
        finally:
            self._inside -= inside

    @staticmethod
    def _first(reasons: Iterator[str | None]) -> str | None:
        return next((reason for reason in reasons if reason is not None), None)


def _is_container(cls: type) -> bool:
    if cls.__module__ == "builtins":  # the other builtins are iterators, errors, and parts of the language
        return issubclass(cls, (list, tuple, dict, set, frozenset))
    return cls in _CARRIED_COLLECTIONS or cls.__module__ in ("collections.abc", "typing", "abc")


def _is_old_typed_dict(cls: Any) -> bool:
    # `casting.py` replaces these by modern ones, which it cannot do inside of a class.
    return sys.version_info < (3, 12) and is_typeddict(cls) and type(cls).__module__ == "typing"


def _is_model(cls: type) -> bool:
    model = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return model is not None and issubclass(cls, model)


def _is_of_pydantic(value: Any) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__.partition(".")[0] in ("pydantic", "pydantic_core")


def _is_decoded(value: Any) -> bool:
    """Return whether this is a type of pydantic that decodes a value when it is read, so that it differs when sent."""
    kind = value if isinstance(value, type) else type(value)
    return _is_of_pydantic(kind) and kind.__name__ in ("EncodedBytes", "EncodedStr", "Json")


def _is_many(value: Any) -> bool:
    return isinstance(value, (tuple, list, dict, set, frozenset))


def _hints(cls: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # an undefined name, or one for type checkers only: reported when the schema is made
        return {}


def _why_no_value(value: Any) -> str | None:
    try:
        encode(value)
    except DeformError as error:
        return f"{value!r:.80} cannot be sent: {error}"
    return None


def _why_not_mirrored(model: Any) -> str | None:
    """Return why a model cannot read what it writes: a field is not written, or is read as another one."""
    by_alias = model.model_config.get("validate_by_alias") is not False
    read = {name: _names_read(name, field) if by_alias else {name} for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        written = field.serialization_alias or name
        if field.exclude and field.is_required():
            return f"its field {model.__qualname__}.{name} is required and never sent (exclude=True)"
        for other, names in read.items():
            if other != name and written in names and written not in read[name]:
                return (
                    f"its field {model.__qualname__}.{name} is written as '{written}', which is read as "
                    f"'{other}'. Give each field one name for reading and writing (alias=)"
                )
    return None


def _names_read(name: str, field: Any) -> set[str]:
    alias = field.validation_alias
    choices: list[Any] = getattr(alias, "choices", [alias if alias is not None else name])
    return {each if isinstance(each, str) else str(each.path[0]) for each in choices}
