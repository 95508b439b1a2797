"""Which members of an Api are offered: the user's own, in every form of a method."""

from __future__ import annotations

import abc
import asyncio
import collections
import functools
import json
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pydantic
import pytest

from lightbus import Api
from lightbus.service.api import left_out

T = TypeVar("T")


class Traced:
    """The kind of decorator that tracing libraries have: an object that binds itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class OnlyBinds:
    """A decorator without `__call__` that binds in a closure."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self.function = function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        @functools.wraps(self.function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            return self.function(instance, *args, **kwargs)

        return bound


class Lazy:
    """A descriptor whose value cannot be known."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AssertionError("it was asked")


class WriteOnce:
    """A field: a descriptor that holds a value."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AssertionError("it was asked")

    def __set__(self, instance: Any, value: Any) -> None: ...


class Notifier:
    """Can be called, and binds nothing."""

    def __call__(self, text: str) -> None: ...


def renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap without functools.wraps."""

    def inner(self: Any, **kwargs: Any) -> Any:
        return function(self, **kwargs)

    return inner


class PriceApi(Api):
    class Meta:
        name = "price"

    def plain(self, sku: str) -> str:
        return sku

    @functools.lru_cache(maxsize=100)  # noqa: B019 - what users write
    def cached(self, sku: str) -> str:
        return sku

    def _of(self, sku: str, currency: str) -> str:
        return sku + currency

    in_euro = functools.partialmethod(_of, currency="EUR")

    @Traced
    def traced(self, sku: str) -> str:
        return sku

    @OnlyBinds
    def closed(self, sku: str) -> str:
        return sku

    @renamed
    def unnamed(self, sku: str) -> str:
        return sku

    @staticmethod
    def static(sku: str) -> str:
        return sku

    @staticmethod
    @functools.cache
    def static_cached(sku: str) -> str:
        return sku

    @classmethod
    def of_class(cls, sku: str) -> str:
        return sku

    @Traced
    async def traced_async(self, sku: str) -> str:
        return sku


SERVED = (
    *("plain", "cached", "in_euro", "traced", "closed", "unnamed"),
    *("static", "static_cached", "of_class", "traced_async"),
)


def test_methods_in_every_form() -> None:
    """A method inside of an object that binds itself is a procedure, with the user's annotations."""
    api = PriceApi()
    assert set(api.procedures) == set(SERVED)
    assert not left_out(api)
    for name, procedure in api.procedures.items():
        result = procedure.function(sku="A")
        assert (asyncio.run(result) if name == "traced_async" else result) == ("AEUR" if name == "in_euro" else "A")
        names = [each.name for each in procedure.signature.parameters]
        assert names == {"in_euro": ["sku", "currency"], "unnamed": []}.get(name, ["sku"])
        if name not in ("unnamed",):
            assert procedure.signature.parameters[0].annotation is str


def _without_self() -> None: ...


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (functools.singledispatchmethod(lambda self, value: value), "first positional argument"),
        (functools.partial(json.dumps, indent=2), "is a partial"),
        (time.monotonic, "is a builtin_function_or_method"),
        (str.upper, "is a method_descriptor"),
        (Notifier(), "is a Notifier, which can be called"),
        (Notifier().__call__, "is a method, which is not given the Api"),
        (Lazy(), "is a Lazy, which may or may not be a method"),
        (functools.lru_cache(asyncio.sleep), "can be awaited once only"),
        (_without_self, "it takes no `self`"),
    ],
)
def test_unservable_methods_are_named(member: Any, why: str) -> None:
    """A member that looks like a method and cannot be called is left out, with the reason."""
    api = type("Odd", (Api,), {"Meta": type("Meta", (), {"name": "odd"}), "it": member})()
    assert not api.procedures
    assert why in left_out(api)["it"]


def test_values_are_left_out_silently() -> None:
    """Properties, fields, nested classes and plain values are not methods."""

    class Plain(Api):
        class Meta:
            name = "plain"

        class Item:
            pass

        limit = 3
        field = WriteOnce()

        @property
        def size(self) -> int:
            raise AssertionError("it was asked")

        @functools.cached_property
        def slow(self) -> int:
            raise AssertionError("it was asked")

    assert not Plain().procedures
    assert not left_out(Plain())


class Count(abc.ABC):
    """A mixin of the user's own."""

    @abc.abstractmethod
    def count(self) -> int: ...

    def total(self) -> int:
        return 2 * self.count()


class Store(collections.UserDict):  # type: ignore[type-arg]
    """A class of the user's own on one of Python's."""

    def drop(self, key: str) -> None:
        del self[key]


def make(*bases: type, **members: Any) -> Api:
    """Return an Api with these further base classes."""
    made: Api = types.new_class("Made", (Api, *bases), {}, lambda namespace: namespace.update(members))()
    return made


META = type("Meta", (), {"name": "made"})


@pytest.mark.parametrize("base", [collections.UserDict, threading.Thread, Generic[T], abc.ABC, json.JSONEncoder])
def test_methods_of_a_library_are_no_procedures(base: Any) -> None:
    """Methods of Python's or a package's class cannot be called; those of the user's class can."""

    def size(self: Any) -> int:
        return 1

    assert list(make(base, Meta=META, size=size).procedures) == ["size"]


def test_model_can_be_an_api() -> None:
    """Neither pydantic's members nor those that it adds to the user's class are procedures."""

    class Settings(Api, pydantic.BaseModel):
        limit: int = 3
        _seen: int = pydantic.PrivateAttr(default=0)

        class Meta:
            name = "settings"

        def current(self) -> int:
            return self.limit

        @pydantic.field_validator("limit")
        @classmethod
        def positive(cls, value: int) -> int:
            return abs(value)

    assert set(Settings().procedures) <= {"current", "positive"}
    assert "current" in Settings().procedures


def test_library_members_hide_those_of_later_classes() -> None:
    """A method is offered only if the instance's attribute of that name is the user's."""

    class Mixin:
        def get(self) -> str:
            return "mine"

    assert "get" not in make(collections.UserDict, Mixin, Meta=META).procedures
    assert "get" in make(Mixin, collections.UserDict, Meta=META).procedures


def test_mixins_of_the_user() -> None:
    """Classes of the program are the user's own, also those that inherit from a library's, with their overrides."""

    def count(self: Any) -> int:
        return 2

    assert set(make(Count, Meta=META, count=count).procedures) == {"count", "total"}
    assert set(make(Store, Meta=META).procedures) == {"drop"}


def test_mixins_of_the_same_package_only_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Api of an installed package is offered with mixins of its own package, not with those of another one."""
    for name in ("shop_installed", "other_installed"):
        module = types.ModuleType(name)
        module.__file__ = f"/somewhere/site-packages/{name}.py"
        monkeypatch.setitem(sys.modules, name, module)

    def method(self: Any) -> int:
        return 1

    def of(package: str) -> Callable[..., Any]:
        made = types.FunctionType(method.__code__, {"__name__": package})
        assert made.__module__ == package
        return made

    mixin = type("Mixin", (), {"mixed": of("shop_installed"), "__module__": "shop_installed"})
    other = type("Other", (), {"strange": of("other_installed"), "__module__": "other_installed"})
    base = type("Base", (Api,), {"inherited": of("shop_installed"), "__module__": "shop_installed"})
    api = type("Made", (base, mixin, other), {"Meta": META, "own": method})()
    assert set(api.procedures) == {"own", "inherited", "mixed"}
