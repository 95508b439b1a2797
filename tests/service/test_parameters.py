"""Parameters, and reading them from functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any, Literal, Optional

import pytest

from lightbus.exceptions import InvalidDeclaration, InvalidName
from lightbus.service.parameters import Parameter, WildcardParameter, annotation_text, empty, exact_types, of_function
from lightbus.service.scopes import Scope


class Account:
    pass


def read(function: Callable[..., Any], **namespace: Any) -> tuple[tuple[Parameter, ...], Any]:
    return of_function(function, label="auth.f", scope=Scope((type("AuthApi", (), namespace),)))


def test_a_function_is_read_with_annotations_and_defaults() -> None:
    """Names, evaluated annotations and defaults are those of the function."""

    def f(a: int, b, *, c: Account | None = None, **rest: int) -> list[Account]: ...  # type: ignore[no-untyped-def]

    parameters, returns = read(f)
    assert parameters == (
        Parameter("a", int),
        Parameter("b"),
        Parameter("c", Account | None, default=None),
        WildcardParameter("rest", int),
    )
    assert returns == list[Account]


def test_a_default_of_none_implies_optional() -> None:
    """`name: str = None` accepts None."""

    def f(name: str = None) -> None: ...  # noqa: RUF013

    assert read(f)[0] == (Parameter("name", str | None, default=None),)


def test_default_of_none_allows_none_in_an_event() -> None:
    """Nothing changes without an annotation, or if None is allowed anyway."""
    assert Parameter("note", str, default=None).annotation == str | None
    assert Parameter("note", str | None, default=None).annotation == str | None
    assert Parameter("note", default=None).annotation is empty
    assert Parameter("note", str, default="").annotation is str
    assert str(Parameter("note", str, default=None)) == "note: str | None = None"


def test_further_positional_arguments_are_left_out() -> None:
    """`*args` cannot be passed on the bus, and need not be."""

    def f(a: int, /, *args: int) -> None: ...

    def g(a: int = 1, /, *args: int) -> None: ...

    assert read(g)[0] == ()
    with pytest.raises(InvalidDeclaration, match=r"auth\.f takes 'a' by position only.*Remove the '/'"):
        read(f)


def test_unevaluable_annotation_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """A name for type checkers only costs a warning, and does not affect other annotations."""

    def f(a: Missing, b: int) -> Missing: ...  # type: ignore[name-defined] # noqa: F821

    with caplog.at_level(logging.WARNING, "lightbus.service"):
        parameters, returns = read(f)
    assert parameters == (Parameter("a"), Parameter("b", int))
    assert returns is empty
    assert "a of auth.f: its annotation Missing cannot be used" in caplog.text


def test_annotations_may_use_names_of_the_class() -> None:
    """A class nested in the Api is found, and a method named like a builtin hides nothing."""

    def f(a: Inner, b: list[str]) -> None: ...  # type: ignore[name-defined] # noqa: F821

    parameters, _ = read(f, Inner=Account, list=lambda self: None)
    assert parameters == (Parameter("a", Account), Parameter("b", list[str]))


@pytest.mark.parametrize(
    ("annotation", "result"),
    [
        (Awaitable[int], int),
        (Coroutine[Any, Any, list[Account]], list[Account]),
        (asyncio.Future[int], int),
        (asyncio.Task[None], None),
        (concurrent.futures.Future[Awaitable[str]], str),
        (Awaitable, empty),
        (asyncio.Future, empty),
    ],
)
def test_what_an_awaitable_results_in_is_the_result(annotation: Any, result: Any) -> None:
    """A `def` may return the coroutine of another function: that is awaited."""

    def f() -> None: ...

    f.__annotations__["return"] = annotation
    assert read(f)[1] is result or read(f)[1] == result


def test_names_that_python_normalises_are_refused() -> None:
    """A name with look-alike characters would reach no handler: Python normalises its names."""
    with pytest.raises(InvalidName, match="as 'file'"):
        Parameter("\ufb01le")
    assert Parameter("größe").name == "größe"


@pytest.mark.parametrize("name", ["", "a b", "1st", "a\x00", "*"])
def test_names_of_parameters_are_identifiers(name: str) -> None:
    """A parameter that could not be passed by name is refused."""
    with pytest.raises(InvalidName, match="not the name of a parameter"):
        Parameter(name)


def test_the_options_of_the_bus_are_no_parameter() -> None:
    """The bus takes `bus_options`, so a procedure would never get it."""

    def f(bus_options: Any) -> None: ...

    with pytest.raises(InvalidName, match="bus_options"):
        read(f)


@pytest.mark.parametrize(
    ("annotation", "types"),
    [
        (empty, set()),
        (Any, set()),
        (object, set()),
        (None, {type(None)}),
        (str, {str}),
        (float, {float}),
        (Optional[int], {int, type(None)}),  # noqa: UP045
        (str | bytes | None, {str, bytes, type(None)}),
        (str | Any, set()),
        (str | Account, None),
        (list[str], None),
        (Literal["a"], None),
        (Decimal, None),
    ],
    ids=str,
)
def test_builtins_and_unions_are_recognised_by_exact_type(annotation: Any, types: set[type] | None) -> None:
    """All other annotations need a further check."""
    assert exact_types(annotation) == types


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (None, "None"),
        (int | None, "int | None"),
        (Optional[Account], "Account | None"),  # noqa: UP045
        (dict[str, Account | None], "dict[str, Account | None]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Any, "Any"),
    ],
)
def test_annotations_are_written_as_in_python(annotation: Any, text: str) -> None:
    """Errors show annotations in short form."""
    assert annotation_text(annotation) == text


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (Parameter("a"), "a"),
        (Parameter("a", int), "a: int"),
        (Parameter("a", int, default=3), "a: int = 3"),
        (Parameter("a", default="x" * 500), "a='" + "x" * 37 + "..." + "x" * 38 + "'"),
        (WildcardParameter(), "**kwargs"),
    ],
)
def test_a_parameter_is_written_as_in_python(parameter: Parameter, text: str) -> None:
    """str() gives the parameter as one would declare it, long defaults elided."""
    assert str(parameter) == text
