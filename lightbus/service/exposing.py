"""Which members of an Api are offered on the bus: which classes are the user's own, and which members are methods.

A class is the user's own if it derives from `Api`, if it comes neither with Python nor from an installed package, or if
it comes from the same package as a class that derives from `Api`. Members of other classes, like `UserDict` or
`Thread`, are never offered.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..phrases import with_article

__all__ = ["bound_method", "is_method", "own_members", "why_left_out"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})

# Python's own descriptors that hold a value, not a method.
_VALUES = (property, functools.cached_property, types.MemberDescriptorType, types.GetSetDescriptorType)
# Methods of other classes or objects, which have no access to the Api.
_FOREIGN_METHODS = (
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)


def own_members(api: type, root: type) -> Iterator[tuple[str, Any, type]]:
    """
    Yield the public members that the user's own classes define in an Api, as `(name, member, class)`.

    Arguments:
        api: the class.
        root: `Api` itself, whose members are not offered.

    """
    classes = [owner for owner in api.__mro__ if owner not in (root, object)]
    packages = {_package(owner) for owner in classes if issubclass(owner, root)}
    foreign = [
        owner
        for owner in classes
        if not issubclass(owner, root) and _package(owner) not in packages and _is_library(owner)
    ]
    hidden: set[str] = set()  # members of a library's class hide those of classes after it
    for owner in classes:
        names = [name for name in vars(owner) if not name.startswith("_")]
        if owner in foreign:
            hidden.update(names)
            continue
        for name in names:
            member = vars(owner)[name]
            if name not in hidden and not _is_generated(name, member, foreign):
                yield name, member, owner


def is_method(member: Any) -> bool:
    """Return whether a member of a class is a method: a function, or an object that binds itself as functions do."""
    if isinstance(member, (staticmethod, classmethod)):
        return not isinstance(member.__func__, type)
    if isinstance(member, (types.FunctionType, functools.partialmethod)):
        return why_left_out(member) is None
    if isinstance(member, (type, functools.partial, *_VALUES, *_FOREIGN_METHODS)) or not hasattr(
        type(member), "__get__"
    ):
        return False
    return (callable(member) or _wraps(member)) and why_left_out(member) is None


def why_left_out(member: Any) -> str | None:
    """Return why a member that looks like a method cannot be served; None for all others."""
    if isinstance(member, functools.singledispatchmethod):
        return "it chooses by the type of its first positional argument, and on the bus all arguments go by name"
    if isinstance(member, functools._lru_cache_wrapper) and inspect.iscoroutinefunction(inspect.unwrap(member)):
        return "lru_cache keeps the coroutine of an `async def`, and that can be awaited once only"
    if isinstance(member, (types.FunctionType, staticmethod, classmethod, functools.partialmethod, type, *_VALUES)):
        return None
    if isinstance(member, (functools.partial, types.BuiltinFunctionType, *_FOREIGN_METHODS)):
        return f"it is {_a(member)}, which is not given the Api"
    if hasattr(type(member), "__get__"):
        holds_a_value = hasattr(type(member), "__set__") or "property" in type(member).__name__.lower()
        if callable(member) or _wraps(member) or holds_a_value:
            return None
        return f"it is {_a(member)}, which may or may not be a method"
    if callable(member) and type(member).__module__.partition(".")[0] != "lightbus":  # a path or a client may be kept
        return f"it is {_a(member)}, which can be called and is not a method"
    return None


def bound_method(api: Any, name: str, member: Any) -> Callable[..., Any]:
    """
    Return a method as its callers see it, without `self`.

    Raises:
        TypeError: it cannot be bound, or has no signature.

    """
    bound: Callable[..., Any] = getattr(api, name)
    try:
        signature = inspect.signature(bound)
    except ValueError as error:
        if inspect.ismethod(bound):  # it has no first parameter
            raise TypeError("it takes no `self`") from None
        raise TypeError(str(error)) from None
    first = next(iter(signature.parameters.values()), None)
    # A decorator that binds in its own closure, with functools.wraps, still seems to take `self`.
    if (
        first is not None
        and first.name == "self"
        and type(bound) is types.FunctionType
        and not isinstance(member, staticmethod)
    ):
        bound.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])  # type: ignore[attr-defined]
    return bound


def _a(member: Any) -> str:
    return with_article(type(member).__name__)


def _wraps(member: Any) -> bool:
    return callable(inspect.getattr_static(member, "__wrapped__", None))


def _package(owner: type) -> str:
    return owner.__module__.partition(".")[0]


def _is_library(owner: type) -> bool:
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    if file is None:  # built into Python, or created by a program at run time
        return _package(owner) in sys.stdlib_module_names
    path = Path(file)
    return not _INSTALLED.isdisjoint(path.parts) or not _stdlib().isdisjoint(path.parents)


@functools.cache
def _stdlib() -> frozenset[Path]:
    import sysconfig  # imported here: a process that only calls has no Api classes

    return frozenset(Path(path) for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name)))


def _is_generated(name: str, member: Any, foreign: list[type]) -> bool:
    """Return whether a library's metaclass has added this member to a user's class, as pydantic does."""
    made_in = getattr(member, "__module__", None)
    return any(
        name in vars(other) and isinstance(made_in, str) and made_in.partition(".")[0] == _package(other)
        for other in foreign
    )
