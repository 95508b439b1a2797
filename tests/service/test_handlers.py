"""Which arguments of an event a listener's function takes, and which events do not fit."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable
from datetime import date
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import pytest

from lightbus.exceptions import InvalidDeclaration, InvalidEventArguments, ValidationError
from lightbus.message import EventMessage, event_message
from lightbus.service.handlers import Handler

T = TypeVar("T")


def handler(function: Callable[..., Any], **options: Any) -> Handler:
    return Handler(function, name="greeter", **options)


def message(**kwargs: Any) -> EventMessage:
    return event_message("shop", "registered", kwargs, 1, "id-1", "", 1, 0.5, "p", None)


def given(function: Callable[..., Any], **kwargs: Any) -> tuple[bool, dict[str, Any]]:
    """Return whether a function gets the message, and with which arguments."""
    args, taken = handler(function).arguments(message(**kwargs))
    assert len(args) < 2
    return len(args) == 1, taken


class Object:
    def __call__(self, message: EventMessage, username: str, email: str) -> None: ...

    def method(self, message: EventMessage, username: str, email: str) -> None: ...

    @classmethod
    def of_class(cls, message: EventMessage, username: str, email: str) -> None: ...

    @staticmethod
    def static(message: EventMessage, username: str, email: str) -> None: ...


def plain(message: EventMessage, username: str, email: str) -> None: ...


async def asynchronous(message: EventMessage, username: str, email: str) -> None: ...


def only_by_name(message: EventMessage, *, username: str, email: str) -> None: ...


def first_by_position(message: EventMessage, /, username: str, email: str) -> None: ...


def names_alone(username: str, email: str) -> None: ...


def with_others(message: EventMessage, email: str, **others: Any) -> None: ...


def with_positions(message: EventMessage, *others: Any, email: str) -> None: ...


def with_more(message: EventMessage, before: int, username: str, email: str) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        plain, asynchronous, only_by_name, first_by_position, names_alone, with_others, with_positions, Object(),
        Object().method, Object.of_class, Object.static, functools.partial(with_more, before=1), lambda m, email: None,
    ],
)  # fmt: skip
@pytest.mark.parametrize("casts", [True, False])
def test_missing_argument_is_named(function: Callable[..., Any], casts: bool) -> None:
    """No kind of function is called with too few arguments; the error has similar names."""
    with pytest.raises(InvalidEventArguments, match=r"^greeter needs the argument 'email'.*Did you mean 'emial'"):
        handler(function, casts=casts).arguments(message(username="sally", emial="s@x"))
    args, kwargs = handler(function, casts=casts).arguments(message(username="sally", email="s@x", more=1))
    assert inspect.signature(function).bind(*args, **kwargs).arguments


class Row(TypedDict):
    """A class that does not support issubclass."""

    x: int


@pytest.mark.parametrize(
    ("function", "is_given", "kwargs"),
    [
        (lambda event_message, x: None, True, {"x": 1}),
        (lambda *messages: None, True, {}),
        (lambda *, x: None, False, {"x": 1}),
        (lambda **kwargs: None, False, {"x": 1, "y": 2}),
        (lambda: None, False, {}),
        (lambda x: None, False, {"x": 1}),
        (lambda x, /: None, True, {}),
        (lambda x, /, **kwargs: None, True, {"x": 1, "y": 2}),
        (lambda message, x=5, z=6: None, True, {"x": 1}),
        (deque[Any]().append, True, {}),
        (functools.partial(lambda a, b, y: None, 1), True, {"y": 2}),
    ],
)
def test_first_positional_parameter_gets_the_message(
    function: Callable[..., Any], is_given: bool, kwargs: dict[str, Any]
) -> None:
    """Unless an argument of the event has its name."""
    assert given(function, x=1, y=2) == (is_given, kwargs)


def shadowing(x: EventMessage, **others: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "casts", "gives_message"),
    [
        (lambda event_message, x: None, True, True),
        (lambda x, **others: None, True, False),
        (lambda x, y, **others: None, True, None),  # a required argument is missing
        (lambda x, /, **others: None, True, True),
        (shadowing, True, None),  # the message takes the place of an argument
        (lambda event_message: None, True, None),  # the event has an argument that the function does not take
        (lambda event_message, x: None, False, None),
    ],
)
def test_arguments_of_several_events_are_checked_together(
    function: Callable[..., Any], casts: bool, gives_message: bool | None
) -> None:
    """If they need no change and have equal names, they are passed unchanged."""
    several = [{"x": 1}, {"x": 2}]
    assert handler(function, casts=casts).gives_message(several) is gives_message
    assert handler(function, casts=casts).gives_message([*several, {"y": 2}]) is None
    if gives_message is not None:
        assert given(function, x=1) == (gives_message, {"x": 1})


def test_the_annotation_of_the_first_parameter_counts() -> None:
    """One annotated as text never gets the message, and one annotated as the message always does."""

    def text(email: str, username: str) -> None: ...

    def the_message(message: EventMessage, username: str) -> None: ...

    def shadowing(message: EventMessage, **others: Any) -> None: ...

    def either(message: EventMessage | None, username: str) -> None: ...

    def typed(row: Row, username: str) -> None: ...

    with pytest.raises(InvalidEventArguments, match="needs the argument 'email'"):
        given(text, username="sally")
    assert given(the_message, message="hello", username="sally") == (True, {"username": "sally"})
    assert given(shadowing, message="hello", username="sally") == (True, {"username": "sally"})
    assert given(either, username="sally") == (True, {"username": "sally"})
    assert given(typed, row={"x": 1}, username="sally") == (False, {"row": {"x": 1}, "username": "sally"})


def test_other_parameters_by_position_alone_are_refused() -> None:
    """Events have their arguments by name; the error says what to move."""
    with pytest.raises(InvalidDeclaration, match=r"greeter takes 'username' by position only.*Move the '/'"):
        handler(lambda message, username, /: None)
    assert given(lambda message, username="?", /: None, username="sally") == (True, {})


def test_wrapper_without_a_signature_of_its_own() -> None:
    """`lru_cache` wraps in C: the arguments are those of the function inside."""

    @functools.lru_cache
    def cached(message: EventMessage, username: str, tags: frozenset[int]) -> None: ...

    taken = {"username": "sally", "tags": frozenset({1})}
    assert given(cached, username="sally", tags=[1], email="?") == (True, taken)
    assert given(len, username="sally") == (True, {})
    with pytest.raises(InvalidEventArguments, match="needs the argument 'tags'"):
        given(cached, username="sally")


def test_values_are_cast() -> None:
    """To the annotations, also of functions inside of partials and objects; values that cannot be cast are refused."""

    def function(message: EventMessage, tags: set[int]) -> None: ...

    class Tagger:
        def __call__(self, message: EventMessage, tags: set[int]) -> None: ...

    for each in (function, functools.partial(function), Tagger()):
        assert given(each, tags=[1, 1]) == (True, {"tags": {1}})
        with pytest.raises(ValidationError, match="tags"):
            given(each, tags="x")
    assert handler(function, casts=False).arguments(message(tags=[1, 1]))[1] == {"tags": [1, 1]}


def test_values_are_cast_to_what_a_class_names() -> None:
    """Annotations of a method mean the classes in its own class, and what the variables of that stand for."""

    class Base(Generic[T]):
        class Tag(NamedTuple):
            text: str

        def on_tagged(self, message: EventMessage, tag: Tag, days: list[T]) -> None: ...

        def __call__(self, message: EventMessage, tag: Tag, days: list[T]) -> None: ...

    class Tagger(Base[date]):
        pass

    for each in (Tagger().on_tagged, functools.partial(Tagger().on_tagged), Tagger()):
        taken = {"tag": Base.Tag("new"), "days": [date(2026, 1, 31)]}
        assert given(each, tag={"text": "new"}, days=["2026-01-31"]) == (True, taken)


# Decorated functions


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def giving(**extra: Any) -> Callable[..., Any]:
    """Return a decorator that adds arguments to those of the event."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs, **extra)

        return wrapper

    return decorate


def raised_by(function: Callable[..., Any], **kwargs: Any) -> tuple[Handler, BaseException]:
    """Call a function as for an event, and return its exception."""
    made = handler(function)
    args, taken = made.arguments(message(**kwargs))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        function(*args, **taken)
    return made, caught.value


def test_decorator_may_add_missing_arguments() -> None:
    """So the function is called, and a missing argument is found when nobody adds it."""
    done: list[str] = []

    def function(message: EventMessage, username: str, session: str) -> None:
        done.append(session)

    decorated = giving(session="mine")(function)
    args, kwargs = handler(decorated).arguments(message(username="sally", more=1))
    decorated(*args, **kwargs)
    assert (done, handler(decorated).is_certain) == (["mine"], False)
    made, error = raised_by(passing_on(function), username="sally")
    assert "greeter needs the argument 'session'" in str(made.argument_error(error, {"username": "sally"}))


def test_decorator_that_raises_another_error() -> None:
    """The cause counts, for example with a decorator that retries."""

    def trying(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                raise RuntimeError("tried in vain") from error

        return wrapper

    made, error = raised_by(trying(plain), username="sally")
    assert made.argument_error(error, {"username": "sally"}) is not None


def test_error_of_the_function_is_no_missing_argument() -> None:
    """A TypeError from inside is the handler's, even if it looks alike, and even if an argument is missing."""

    def inner(email: str) -> None: ...

    def function(message: EventMessage, username: str, email: str = "") -> None:
        inner()  # type: ignore[call-arg]

    made, error = raised_by(passing_on(function), username="sally")
    assert made.argument_error(error, {"username": "sally"}) is None

    def lacking(message: EventMessage, email: str) -> None:
        inner()  # type: ignore[call-arg]

    made, error = raised_by(giving(email="s@x")(lacking), username="sally")
    assert made.argument_error(error, {"username": "sally"}) is None


def test_wrapper_with_fewer_parameters() -> None:
    """Its parameters count; the annotations are those of the inner function."""

    @functools.wraps(plain)
    def wrapper(message: EventMessage, username: str) -> None:
        plain(message, username, "s@x")

    assert given(wrapper, username="sally") == (True, {"username": "sally"})
    assert handler(wrapper).is_certain


def test_missing_arguments_are_known_beforehand() -> None:
    """Before any event, `lacking` lists the arguments that will be missing."""
    assert handler(plain).lacking(["username"]) == ["email"]
    assert handler(names_alone).lacking([]) == ["username", "email"]
    assert handler(with_others).lacking(["email"]) == []
    assert handler(lambda username: None).lacking(["age"]) == []
