"""Arguments that a function does not have: refused with the near names, and with all there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar, cast

from .exceptions import LightbusException, did_you_mean

__all__ = ["also_named", "unknown_keywords_raise"]

F = TypeVar("F", bound=Callable[..., Any])


def unknown_keywords_raise(error: type[LightbusException]) -> Callable[[F], F]:
    """
    Have a function that a program calls while it is set up refuse keywords that it does not have, by `error`.

    And arguments by position where it has none, or not so many.
    """

    def decorate(function: F) -> F:
        code = function.__code__
        known = [name for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if name != "self"]
        called = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    raise error(
                        f"{called}() has no argument '{name}'.{did_you_mean(name, known)} It has: {', '.join(known)}."
                    )
            if len(args) > code.co_argcount:
                raise error(_by_position(called, args[code.co_argcount], code))
            return function(*args, **kwargs)

        return cast(F, checked)

    return decorate


def also_named(**names: str) -> Callable[[F], F]:
    """Have a function take arguments under further names: `also_named(full_rpc_name="name")`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            for other, name in names.items():
                if other in kwargs:
                    if name in kwargs:
                        raise TypeError(f"{function.__qualname__}() was given {name} and {other}, which are the same")
                    kwargs[name] = kwargs.pop(other)
            return function(*args, **kwargs)

        return cast(F, called)

    return decorate


def _by_position(called: str, given: Any, code: CodeType) -> str:
    """Return what is wrong with a call that gives more by position than a function takes so."""
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    text = f"{called}() was given {given!r:.100} by position, "
    if not named:
        return f"{text}which is more than it takes."
    return f"{text}and takes by name what comes there: {', '.join(f'{name}=' for name in named)}."
