"""The scope of the annotations of a method: the names and the type variables of its class."""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Annotated, Any, Generic, Optional, ParamSpec, TypeVar, Union

import pytest

from lightbus.service.scopes import NO_SCOPE, Scope

T = TypeVar("T")
K = TypeVar("K")
P = ParamSpec("P")


class Base(Generic[K, T]):
    inner = "of the base"
    outer = "of the base"

    def find(self) -> None: ...


class Middle(Base[str, list[T]], Generic[T]):
    outer = "of the middle"

    def found(self) -> None: ...


class Last(Middle[int]):
    outer = "of the last"


def test_names_are_those_where_the_member_is_defined() -> None:
    """A method of a base class does not mean what a derived class calls so."""
    assert Scope.of_member(Last, "found").names["outer"] == "of the middle"
    assert Scope.of_member(Last, "found").names["inner"] == "of the base"
    assert Scope.of_member(Last, "find").names["outer"] == "of the base"
    assert NO_SCOPE.names == {}


def test_variables_are_those_of_the_class_that_defines_the_member() -> None:
    """Also where one of a base class stands for one of the class between, which has the same name."""
    assert Scope.of_member(Last, "found").bound(T) is int
    scope = Scope.of_member(Last, "find")
    assert (scope.bound(K), scope.bound(T)) == (str, list[int])
    assert Scope.of_member(Middle, "find").bound(dict[K, T]) == dict[str, list[T]]


@pytest.mark.parametrize(
    ("annotation", "bound"),
    [
        (dict[str, list[T]], dict[str, list[int]]),
        (T | None, int | None),
        (Optional[T], Optional[int]),  # noqa: UP045
        (Union[T, str], int | str),  # noqa: UP007
        (Annotated[T, "why"], Annotated[int, "why"]),
        (Middle[T], Middle[int]),
        (K, K),
        (list[str], list[str]),
        (Middle, Middle),
        (None, None),
        ("text", "text"),
    ],
)
def test_variables_are_replaced_within_annotations(annotation: Any, bound: Any) -> None:
    """In every form; without a type they stay."""
    assert Scope(bindings={T: int}).bound(annotation) == bound
    assert NO_SCOPE.bound(annotation) is annotation


def test_methods_and_objects_that_are_called() -> None:
    """A listener is mostly a function, and may be either, also with some arguments given."""

    class Called(Middle[int]):
        outer = "of the called"

        def __call__(self) -> None: ...

        @classmethod
        def make(cls) -> None: ...

    for function in (Called().found, partial(partial(Called().found), 1)):
        assert Scope.of_callable(function) == Scope.of_member(Called, "found")
    assert Scope.of_callable(Called.make).names["outer"] == "of the called"
    assert Scope.of_callable(MethodType(partial(Called.found), Called())).names["outer"] == "of the called"
    assert Scope.of_callable(Called()).names["outer"] == "of the called"
    for function in (Called, Middle.found, len, "".upper):
        assert Scope.of_callable(function) is NO_SCOPE


def test_class_that_does_not_say_its_types() -> None:
    """Its variables stand for anything, as do those that stand for several types."""

    class Plain(Base):  # type: ignore[type-arg]
        pass

    class Several(Generic[P]):
        def find(self) -> None: ...

    class Both(Several[[int, str]]):
        pass

    assert Scope.of_member(Plain, "find").bound(T) is T
    assert Scope.of_member(Both, "find").bound(list[T]) == list[T]
