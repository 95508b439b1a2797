"""Refuse arguments that a function does not have, naming near names and all its arguments."""

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
    Make a function raise `error` for a keyword that it does not have, and for too many positional arguments.

    For functions that a program calls while it is set up.
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
    """Make a function accept arguments under other names, too: `also_named(full_rpc_name="name")`."""

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
    """Return the error text for a call with more positional arguments than the function takes."""
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    text = f"{called}() was given {given!r:.100} by position, "
    if not named:
        return f"{text}which is more than it takes."
    return f"{text}but takes its further arguments by name: {', '.join(f'{name}=' for name in named)}."
