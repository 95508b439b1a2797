"""Forks made by the user's code: a child that returns from that code ends there.

It is a copy of a worker, with the worker's sockets and files and one thread. What it would do further, its parent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

__all__ = ["FORKS", "end_child", "ended_in_child"]


class _Forks:
    """How many forks lie between this process and the one that imported us; only a child ever counts."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


FORKS = _Forks()
"""The code that runs the user's code compares the count before with the one afterwards."""

_LOOPS: dict[int, asyncio.AbstractEventLoop] = {}
"""The loops of workers that run now, by their threads."""


@contextlib.contextmanager
def ended_in_child(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have a loop, which this thread runs, end in every child that is forked on it."""
    _LOOPS[threading.get_ident()] = loop
    try:
        yield
    finally:
        _LOOPS.pop(threading.get_ident(), None)


def end_child(error: BaseException | None = None) -> NoReturn:
    """
    End this process, a child that came back from the user's code, as it would have ended as a program of its own.

    The exit code is that of SystemExit, 1 after another exception, otherwise 0. No exit handler runs and no buffer is
    written out: they are the parent's. Written past `sys.stderr`, whose lock another thread of the parent may hold.
    """
    code, text = _outcome(error)
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace"))
    os._exit(code)


def _outcome(error: BaseException | None) -> tuple[int, str]:
    """Return the exit code, and the message to print."""
    if error is None:
        return 0, (
            f"lightbus: process {os.getpid()}, which a handler forked, came back from it and was ended; its parent "
            "continues. End a child with os._exit(), or use subprocess or multiprocessing.\n"
        )
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF, ""
        return 1, f"{error.code}\n"
    try:
        return 1, "".join(traceback.format_exception(error))
    except Exception:  # it cannot be told
        return 1, f"{type(error).__name__} in a child that a handler forked\n"


def _in_child() -> None:
    FORKS.count += 1
    loop: Any = _LOOPS.get(threading.get_ident())
    if loop is not None:  # a task of the user's own may have forked it, of whose end nobody else is told
        if hasattr(loop, "_ready"):
            loop._ready.clear()  # the rest of this turn of the loop is the parent's
        loop.call_soon(end_child)


os.register_at_fork(after_in_child=_in_child)
