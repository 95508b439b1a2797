"""What a listener's function takes of an event, and which events do not fit it."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

from lightbus.exceptions import InvalidDeclaration, InvalidEventArguments, ValidationError
from lightbus.message import EventMessage, event_message
from lightbus.service.handlers import Handler


def handler(function: Callable[..., Any], **options: Any) -> Handler:
    return Handler(function, name="greeter", **options)


def message(**kwargs: Any) -> EventMessage:
    return event_message("shop", "registered", kwargs, 1, "id-1", "", 1, 0.5, "p", None)


def given(function: Callable[..., Any], **kwargs: Any) -> tuple[bool, dict[str, Any]]:
    """Return whether a function is given the message, and with which arguments."""
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
def test_an_argument_that_is_missing_is_named(function: Callable[..., Any], casts: bool) -> None:
    """Whatever kind of function it is, it is not called with less than it needs; the error has near names."""
    with pytest.raises(InvalidEventArguments, match=r"^greeter needs the argument 'email'.*Did you mean 'emial'"):
        handler(function, casts=casts).arguments(message(username="sally", emial="s@x"))
    args, kwargs = handler(function, casts=casts).arguments(message(username="sally", email="s@x", more=1))
    assert inspect.signature(function).bind(*args, **kwargs).arguments


class Row(TypedDict):
    """A class that says of no other whether it is a subclass."""

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
def test_what_a_function_is_given(function: Callable[..., Any], is_given: bool, kwargs: dict[str, Any]) -> None:
    """The first parameter that can be given by position takes the message, unless it has the name of an argument."""
    assert given(function, x=1, y=2) == (is_given, kwargs)


def shadowing(x: EventMessage, **others: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "casts", "gives_message"),
    [
        (lambda event_message, x: None, True, True),
        (lambda x, **others: None, True, False),
        (lambda x, y, **others: None, True, None),  # it lacks one
        (lambda x, /, **others: None, True, True),
        (shadowing, True, None),  # the message takes the place of one
        (lambda event_message: None, True, None),  # one is not taken
        (lambda event_message, x: None, False, None),
    ],
)
def test_what_is_given_of_several_events(function: Callable[..., Any], casts: bool, gives_message: bool | None) -> None:
    """Arguments that are ready, the same of all events, are given as they are: each event is told the same of."""
    several = [{"x": 1}, {"x": 2}]
    assert handler(function, casts=casts).gives_message(several) is gives_message
    assert handler(function, casts=casts).gives_message([*several, {"y": 2}]) is None
    if gives_message is not None:
        assert given(function, x=1) == (gives_message, {"x": 1})


def test_the_annotation_of_the_first_parameter_counts() -> None:
    """One that is annotated with a text is never given the message in its place, and one with the message always is."""

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


def test_values_are_cast() -> None:
    """To what the annotations say, also those inside of a partial or an object; what cannot be cast is refused."""

    def function(message: EventMessage, tags: set[int]) -> None: ...

    class Tagger:
        def __call__(self, message: EventMessage, tags: set[int]) -> None: ...

    for each in (function, functools.partial(function), Tagger()):
        assert given(each, tags=[1, 1]) == (True, {"tags": {1}})
        with pytest.raises(ValidationError, match="tags"):
            given(each, tags="x")
    assert handler(function, casts=False).arguments(message(tags=[1, 1]))[1] == {"tags": [1, 1]}


# Decorated functions


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def giving(**extra: Any) -> Callable[..., Any]:
    """Return a decorator that gives a function more than the event has."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs, **extra)

        return wrapper

    return decorate


def raised_by(function: Callable[..., Any], **kwargs: Any) -> tuple[Handler, BaseException]:
    """Call a function as for an event, and return what it raises."""
    made = handler(function)
    args, taken = made.arguments(message(**kwargs))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        function(*args, **taken)
    return made, caught.value


def test_a_decorator_may_give_what_the_event_lacks() -> None:
    """So it is called, and what it lacks is found when nobody gave it."""
    done: list[str] = []

    def function(message: EventMessage, username: str, session: str) -> None:
        done.append(session)

    decorated = giving(session="mine")(function)
    args, kwargs = handler(decorated).arguments(message(username="sally", more=1))
    decorated(*args, **kwargs)
    assert (done, handler(decorated).is_certain) == (["mine"], False)
    made, error = raised_by(passing_on(function), username="sally")
    assert "greeter needs the argument 'session'" in str(made.argument_error(error, {"username": "sally"}))


def test_a_decorator_that_raises_something_else_from_it() -> None:
    """A decorator that tries again, say: what it came from counts."""

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


def test_what_the_function_itself_raises_is_no_misfit() -> None:
    """A TypeError from inside is the handler's, even one that reads like the other, and even where something lacks."""

    def inner(email: str) -> None: ...

    def function(message: EventMessage, username: str, email: str = "") -> None:
        inner()  # type: ignore[call-arg]

    made, error = raised_by(passing_on(function), username="sally")
    assert made.argument_error(error, {"username": "sally"}) is None

    def lacking(message: EventMessage, email: str) -> None:
        inner()  # type: ignore[call-arg]

    made, error = raised_by(giving(email="s@x")(lacking), username="sally")
    assert made.argument_error(error, {"username": "sally"}) is None


def test_a_wrapper_that_takes_less_is_called_with_that() -> None:
    """What counts is what can be called; the annotations are those of the function inside."""

    @functools.wraps(plain)
    def wrapper(message: EventMessage, username: str) -> None:
        plain(message, username, "s@x")

    assert given(wrapper, username="sally") == (True, {"username": "sally"})
    assert handler(wrapper).is_certain


def test_what_is_lacking_of_an_event() -> None:
    """Before there is an event it can be told which of its arguments will be missing."""
    assert handler(plain).lacking(["username"]) == ["email"]
    assert handler(names_alone).lacking([]) == ["username", "email"]
    assert handler(with_others).lacking(["email"]) == []
    assert handler(lambda username: None).lacking(["age"]) == []
