"""SIGINT and SIGTERM while a process runs a worker: they stop it, and a forked child of it has nothing of that."""

from __future__ import annotations

import asyncio.unix_events
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["ENDING", "forget_in_child", "held_back", "signals_given_back"]

ENDING = (signal.SIGINT, signal.SIGTERM)

_before: dict[signal.Signals, Any] = {}
"""What the program itself does with these signals, while `run_forever` does something else with them."""


@contextlib.contextmanager
def signals_given_back() -> Iterator[None]:
    """Give SIGINT and SIGTERM back to whoever had them before, at the end. In the main thread."""
    found = {number: signal.getsignal(number) for number in ENDING}
    _before.update({number: handler for number, handler in found.items() if handler is not None})  # None: not Python's
    try:
        yield
    finally:
        _give_back()


def held_back() -> set[signal.Signals] | None:
    """
    Let no SIGINT and SIGTERM come in this thread from now on, and return what was held back before: for a fork.

    Until it has handlers of its own a child would tell its parent of them, with which it shares the descriptor that
    asyncio is woken by. None where this thread is not asked for signals.
    """
    with contextlib.suppress(OSError, ValueError):
        return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)}
    return None


def forget_in_child(*, has_worker: bool) -> None:
    """Have SIGINT and SIGTERM do in a forked child what they did before there was a worker. Called in the child."""
    if threading.current_thread() is not threading.main_thread():
        return  # never after a fork
    if _before or has_worker:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)  # it is the parent's, whose loop would take our signals for its own
    _give_back()
    if has_worker:
        _wake_from_asyncio()


def _give_back() -> None:
    for number, handler in _before.items():
        with contextlib.suppress(ValueError, TypeError):
            signal.signal(number, handler)
    _before.clear()


def _wake_from_asyncio() -> None:
    """Undo what a program's own loop handles: without its descriptor it would do nothing, and ignore the signal."""
    nothing = getattr(asyncio.unix_events, "_sighandler_noop", None)
    defaults: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, default in defaults.items():
        if nothing is not None and signal.getsignal(number) is nothing:
            signal.signal(number, default)
