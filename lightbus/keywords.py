"""Keyword arguments that a function does not have: refused with the near names, and with all there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .exceptions import LightbusException, did_you_mean

__all__ = ["unknown_keywords_raise"]

F = TypeVar("F", bound=Callable[..., Any])


def unknown_keywords_raise(error: type[LightbusException]) -> Callable[[F], F]:
    """Have a function that a program calls while it is set up refuse keywords that it does not have, by `error`."""

    def decorate(function: F) -> F:
        code = function.__code__
        known = [name for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if name != "self"]

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    raise error(
                        f"{function.__qualname__}() has no argument '{name}'.{did_you_mean(name, known)} "
                        f"It has: {', '.join(known)}."
                    )
            return function(*args, **kwargs)

        return cast(F, checked)

    return decorate
