"""What the annotations in a class may use besides the globals of its module: its names, and its type variables."""

from __future__ import annotations

import contextlib
import functools
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

__all__ = ["NO_SCOPE", "Scope"]

Bindings: TypeAlias = Mapping[Any, Any]
"""Type variables, each with the type that it stands for."""


@dataclass(frozen=True, slots=True)
class Scope:
    """
    The scope of the annotations of a method.

    Attributes:
        classes: the class that defines the method, and the base classes of that.
        bindings: what type variables stand for: `{T: User}` for a method of `Base` in a class of `Base[User]`.

    """

    classes: tuple[type, ...] = ()
    bindings: Bindings = field(default_factory=dict)

    @classmethod
    def of_member(cls, api: type, name: str) -> Scope:
        """Return the scope of a member of a class, which one of its base classes may define."""
        classes = api.__mro__
        place = next((place for place, each in enumerate(classes) if name in vars(each)), 0)
        return cls(classes[place:], _bindings(api).get(classes[place], {}))

    @classmethod
    def of_callable(cls, function: Any) -> Scope:
        """Return the scope of a bound method, or of an object that can be called; a plain function has none."""
        while isinstance(function, functools.partial):
            function = function.func
        if inspect.ismethod(function):
            owner = function.__self__
            name = getattr(function, "__name__", "")  # of a `partial` that was made a method there is none
            return cls.of_member(owner if isinstance(owner, type) else type(owner), name)
        is_object = not inspect.isroutine(function) and not isinstance(function, type)
        return cls.of_member(type(function), "__call__") if is_object else NO_SCOPE

    @property
    def names(self) -> dict[str, Any]:
        """The names that the classes define."""
        return {name: value for each in reversed(self.classes) for name, value in vars(each).items()}

    def bound(self, annotation: Any) -> Any:
        """Return an annotation with the type variables replaced by what they stand for."""
        return _bound(annotation, self.bindings) if self.bindings else annotation


NO_SCOPE = Scope()


def _bindings(api: type) -> dict[type, Bindings]:
    """Return what the type variables of each generic base class of a class stand for."""
    found: dict[type, Bindings] = {}
    for owner in api.__mro__:  # a class comes before its bases, whose variables may stand for its own
        for base in vars(owner).get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            variables = getattr(origin, "__parameters__", ())
            types = [_bound(each, found.get(owner, {})) for each in typing.get_args(base)]
            if isinstance(origin, type) and len(variables) == len(types):
                found.setdefault(origin, dict(zip(variables, types, strict=True)))
    return found


def _bound(annotation: Any, bindings: Bindings) -> Any:
    if isinstance(annotation, TypeVar):
        return bindings.get(annotation, annotation)
    variables = getattr(annotation, "__parameters__", ())
    if variables and not isinstance(annotation, type):
        with contextlib.suppress(TypeError):  # one stands for several types
            return annotation[tuple(bindings.get(each, each) for each in variables)]
    return annotation
