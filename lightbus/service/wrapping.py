"""Hooks that wrap: functions that return a context manager, which is entered before and left after what it is about.

Such a hook learns of every end, and by its exception of a failed one. It runs where the loop or the thread is, so it
must not block; and it swallows nothing: what a call or a handler raised is raised all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, TypeAlias

from ..exceptions import InvalidDeclaration

__all__ = ["NOTHING", "Opener", "RunHook", "Wrapping", "plainly"]

Opener: TypeAlias = tuple[Callable[..., Any], Mapping[str, Any]]
"""A function of the user's, and its arguments."""

RunHook: TypeAlias = Callable[..., Any]
"""Calls a function with arguments, in the context that it shall have."""

NOTHING: AbstractContextManager[None] = nullcontext()
"""Where no hook wraps."""


def plainly(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function right here: what wraps a call or a firing is part of the caller's code."""
    return function(*args)


class Wrapping:
    """
    The wraps of one hook around one thing, the first one outermost.

    Args:
        openers: give the context managers.
        run: calls them; where it cannot any more, as the context is taken by a thread that was left behind, they are
            left in this one.

    """

    __slots__ = ("_openers", "_run", "_stack")

    def __init__(self, openers: Iterable[Opener], run: RunHook = plainly) -> None:
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
            run = plainly
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
