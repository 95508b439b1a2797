"""Hooks that wrap: functions that return a context manager, which is entered before a call or event and left after it.

Such a hook sees every end, and the exception of a failure. It runs on the loop or in the thread of the call, so it must
not block; and it cannot suppress errors: the exception of a call or handler is raised in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, TypeAlias

from ..exceptions import InvalidDeclaration

__all__ = ["NOTHING", "Opener", "RunHook", "Wrapping", "call_directly"]

Opener: TypeAlias = tuple[Callable[..., Any], Mapping[str, Any]]
"""A user's function, and its arguments."""

RunHook: TypeAlias = Callable[..., Any]
"""Calls a function with arguments in its context."""

NOTHING: AbstractContextManager[None] = nullcontext()
"""Used if there is no wrapping hook."""


def call_directly(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the present context: hooks around a call or a firing are part of the caller's code."""
    return function(*args)


class Wrapping:
    """
    The context managers of one hook around one call or event, the first one outermost.

    Args:
        openers: the functions that return the context managers.
        run: calls the functions in their context; if the context is still in use by an abandoned thread, the context
            managers are left in the present one.

    """

    __slots__ = ("_openers", "_run", "_stack")

    def __init__(self, openers: Iterable[Opener], run: RunHook = call_directly) -> None:
        self._openers = openers
        self._run = run
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._run(self._enter)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self._run
        try:
            run(int)
        except RuntimeError:
            run = call_directly
        run(self._stack.__exit__, kind, error, trace)

    def _enter(self) -> None:
        with ExitStack() as stack:
            for function, details in self._openers:
                wrap = function(**details)
                if wrap is None:  # nothing to do this time
                    continue
                if not hasattr(wrap, "__enter__"):
                    raise InvalidDeclaration(
                        f"The hook {getattr(function, '__qualname__', repr(function))}() wraps what happens, so it has "
                        f"to return a context manager, and returned {wrap!r:.100}. Write @contextlib.contextmanager "
                        "above it, and a `yield` into it. An `async def` cannot wrap."
                    )
                stack.enter_context(wrap)
            self._stack = stack.pop_all()
