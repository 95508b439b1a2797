"""Forks by the user's code: a child that returns from that code is ended there, and finds no lock held.

The child is a copy of a worker, with the worker's sockets and files and one thread. The parent continues the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

__all__ = ["CHANGING", "FORKS", "end_child", "ended_in_child"]


class _Forks:
    """The number of forks between the process that imported this package and this one; only increased in a child."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


FORKS = _Forks()
"""Code that runs the user's code compares the count before and after it."""

CHANGING = threading.RLock()
"""Held while a dict that other threads read is replaced by a changed copy. A fork waits for it: no child holds it."""

_LOOPS: dict[int, asyncio.AbstractEventLoop] = {}
"""The running loops of workers, by thread id."""


@contextlib.contextmanager
def ended_in_child(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """While this context lasts, end the loop that this thread runs in every child that is forked on it."""
    _LOOPS[threading.get_ident()] = loop
    try:
        yield
    finally:
        _LOOPS.pop(threading.get_ident(), None)


def end_child(error: BaseException | None = None) -> NoReturn:
    """
    End this process, a child that returned from the user's code, with the exit code of a program of its own.

    The exit code is that of SystemExit, 1 after another exception, otherwise 0. No exit handlers run and no buffers are
    flushed: they belong to the parent. The message is not written by `sys.stderr`, whose lock another thread of the
    parent may have held at the fork.
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
    except Exception:  # it cannot be formatted
        return 1, f"{type(error).__name__} in a child that a handler forked\n"


def _in_child() -> None:
    FORKS.count += 1
    loop: Any = _LOOPS.get(threading.get_ident())
    if loop is not None:  # a user's own task may have forked, whose end our code does not see
        if hasattr(loop, "_ready"):
            loop._ready.clear()  # the parent does the rest of this turn of the loop
        loop.call_soon(end_child)


os.register_at_fork(before=CHANGING.acquire, after_in_parent=CHANGING.release, after_in_child=CHANGING.release)
os.register_at_fork(after_in_child=_in_child)
