"""Waiting in a plain thread in such a way that Ctrl-C ends the wait as a KeyboardInterrupt, whenever it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["interruptible"]

T = TypeVar("T")


def interruptible(wait: Callable[..., T], *args: object) -> T:
    """
    Return `wait(*args)`, which waits by a `threading.Condition`, as `Future.result` and `Thread.start` do.

    Python's `Condition.wait` releases the lock and takes it again. If a signal handler raises in between, the `with` of
    that lock finds it released and raises a RuntimeError: a script that Ctrl-C should end would fail with exit code 1.
    So `wait` has to include that `with`.
    """
    try:
        return wait(*args)
    except RuntimeError as error:
        if isinstance(error.__context__, (KeyboardInterrupt, SystemExit)):
            raise error.__context__ from None
        raise
