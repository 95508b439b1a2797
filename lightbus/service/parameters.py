"""Parameters of procedures and events, and reading them from a function: names, annotations, defaults."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import inspect
import logging
import types
import typing
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ..exceptions import InvalidDeclaration, InvalidName
from .problems import elided
from .scopes import NO_SCOPE, Scope

__all__ = ["Parameter", "WildcardParameter", "annotation_text", "by_name", "empty", "exact_types", "of_function"]

logger = logging.getLogger("lightbus.service")

empty = inspect.Parameter.empty
"""No annotation, or no default."""

# `bus.auth.check_password(..., bus_options={"timeout": 3})`: this argument never reaches the procedure.
_RESERVED = frozenset({"bus_options"})

_MAX_WRAPPERS = 100  # a decorator may say that it wraps itself

_BUILTINS = frozenset({str, int, float, bool, bytes, list, dict, type(None)})


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    One parameter of an event: `Parameter("username", str)`.

    Attributes:
        name: its name, an identifier.
        annotation: the type of its values; without one, anything is accepted.
        default: its value if the event is fired without it; without a default it is required. With the
            default None, None may be passed, too.

    Raises:
        InvalidName: the name cannot be that of an argument, or is reserved.

    """

    name: str
    annotation: Any = empty
    default: Any = field(default=empty, kw_only=True)

    def __post_init__(self) -> None:
        if not str(self.name).isidentifier():
            raise InvalidName(
                f"{self.name!r} is not the name of a parameter. Use letters, digits and '_', as in Python."
            )
        read = self.name if self.name.isascii() else unicodedata.normalize("NFKC", self.name)
        if read != self.name:
            raise InvalidName(f"Python reads the name {self.name!r} of a parameter as {read!r}. Write it so.")
        if self.name in _RESERVED:
            raise InvalidName(
                f"A parameter cannot be named '{self.name}': with it callers give the bus their options. "
                "Rename it, to 'options' for one."
            )
        if self.default is None and self.annotation is not empty:
            # `name: str = None` is how many write `name: str | None = None`.
            with contextlib.suppress(TypeError):  # an annotation that is not a type is checked elsewhere
                annotation = self.annotation
                annotation = Optional[annotation]  # noqa: UP045 - not every annotation has the operator |
                object.__setattr__(self, "annotation", annotation)

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is empty

    def __str__(self) -> str:
        text = self.name if self.annotation is empty else f"{self.name}: {annotation_text(self.annotation)}"
        if self.is_required:
            return text
        return f"{text}={elided(self.default)}" if self.annotation is empty else f"{text} = {elided(self.default)}"


@dataclass(frozen=True, slots=True)
class WildcardParameter(Parameter):
    """Accepts further arguments of any name; with an annotation, those of that type."""

    name: str = "kwargs"

    def __str__(self) -> str:
        return f"**{self.name}" if self.annotation is empty else f"**{self.name}: {annotation_text(self.annotation)}"


def of_function(
    function: Callable[..., Any], *, label: str, scope: Scope = NO_SCOPE
) -> tuple[tuple[Parameter, ...], Any]:
    """
    Return the parameters of a function and the annotation of its final result: an awaitable one is awaited.

    An annotation that cannot be evaluated (if its name is imported for type checkers only, for example) is ignored.

    Arguments:
        function: the function as callers see it, without `self`.
        label: its name in log lines and errors.
        scope: what its annotations may use besides the globals of the function's module.

    Raises:
        InvalidDeclaration: a required parameter cannot be given by name.
        InvalidName: a parameter has a reserved name.

    """
    plain = inspect.signature(function)
    resolved = _resolver(function, label, scope)
    parameters = tuple(_read(plain.parameters.values(), resolved, label))
    return parameters, _awaited(resolved("the result", plain.return_annotation))


def by_name(
    function: Callable[..., Any], declared: Iterable[inspect.Parameter], *, label: str
) -> tuple[Parameter, ...]:
    """Return a function's declared parameters that can be passed by name, with their annotations."""
    named = [each for each in declared if each.kind is not each.POSITIONAL_ONLY]
    return tuple(_read(named, _resolver(function, label, Scope.of_callable(function)), label))


def _resolver(function: Callable[..., Any], label: str, scope: Scope) -> Callable[[str, Any], Any]:
    inner = _innermost(function)
    if not hasattr(inner, "__globals__"):
        inner = _innermost(getattr(type(inner), "__call__", inner))  # noqa: B004 - an object that can be called
    where = getattr(inner, "__globals__", {})

    def resolved(name: str, annotation: Any) -> Any:
        return scope.bound(_resolved(annotation, f"{name} of {label}", where, scope))

    return resolved


def _innermost(function: Any) -> Any:
    """Return the user's function inside of methods, partials and decorators."""
    for _ in range(_MAX_WRAPPERS):
        inner = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            inner = getattr(function, "__func__", None)
        if inner is None:
            break
        function = inner
    return function


def _read(
    declared: Iterable[inspect.Parameter], resolved: Callable[[str, Any], Any], label: str
) -> Iterator[Parameter]:
    for each in declared:
        if each.kind is each.VAR_KEYWORD:
            annotation = resolved(each.name, each.annotation)
            says_nothing = annotation is Any or typing.get_origin(annotation) is typing.Unpack
            yield WildcardParameter(each.name, empty if says_nothing else annotation)
        elif each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD):
            yield Parameter(each.name, resolved(each.name, each.annotation), default=each.default)
        elif each.kind is each.POSITIONAL_ONLY and each.default is empty:
            raise InvalidDeclaration(
                f"{label} takes '{each.name}' by position only, and on the bus all arguments go by name. "
                f"Remove the '/' from its parameters."
            )


def _resolved(annotation: Any, what: str, globals_: Mapping[str, Any], scope: Scope) -> Any:
    if annotation is empty or annotation is None or isinstance(annotation, type):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        # The globals first: a class may have a method named `list`, which `list[str]` does not mean.
        try:
            return typing.get_type_hints(holder, dict(globals_), include_extras=True)["it"]
        except NameError:
            return typing.get_type_hints(holder, dict(globals_), scope.names, include_extras=True)["it"]
    except Exception as error:  # an annotation is a user's expression: it may raise anything
        logger.warning("%s: its annotation %s cannot be used, any value is accepted: %s", what, annotation, error)
        return empty


def _awaited(annotation: Any) -> Any:
    """Return the annotation of what an awaitable results in, if it is an awaitable's: `int` of `Awaitable[int]`."""
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if isinstance(kind, type) and issubclass(kind, (Awaitable, concurrent.futures.Future)):
        return _awaited(arguments[-1]) if arguments else empty
    return annotation


def exact_types(annotation: Any) -> frozenset[type] | None:
    """
    Return the types whose instances need no further check; an empty set means any type, None that there are none.

    Only exact types count: in Python True is an int, but for a schema it is not a number.
    """
    if annotation is empty or annotation is Any or annotation is object:
        return frozenset()
    if annotation is None:
        return frozenset({type(None)})
    if isinstance(annotation, type) and annotation in _BUILTINS:
        return frozenset({annotation})
    if typing.get_origin(annotation) not in (Union, types.UnionType):
        return None
    choices = [exact_types(choice) for choice in typing.get_args(annotation)]
    if frozenset() in choices:
        return frozenset()
    known = [choice for choice in choices if choice is not None]
    return frozenset().union(*known) if len(known) == len(choices) else None


def annotation_text(annotation: Any) -> str:
    """Return an annotation in Python's notation, without the modules of names where that is easy."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(annotation_text(choice) for choice in typing.get_args(annotation))
    if isinstance(annotation, types.GenericAlias):
        arguments = ", ".join(annotation_text(each) for each in typing.get_args(annotation))
        return f"{annotation_text(typing.get_origin(annotation))}[{arguments}]"
    if annotation is ...:
        return "..."
    return str(annotation).replace("typing.", "")
