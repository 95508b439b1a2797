"""SIGINT and SIGTERM while a process runs a worker: they stop it, and a forked child of it has nothing of that."""

from __future__ import annotations

import asyncio.unix_events
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

__all__ = ["ENDING", "block_signals", "forget_in_child", "restoring_signals", "unblock_signals"]

ENDING = (signal.SIGINT, signal.SIGTERM)

_before: dict[signal.Signals, Any] = {}
"""What the program itself does with these signals, while `run_forever` does something else with them."""


@contextlib.contextmanager
def restoring_signals() -> Iterator[None]:
    """Restore at the end the handlers that SIGINT and SIGTERM had before. In the main thread."""
    found = {number: signal.getsignal(number) for number in ENDING}
    _before.update({number: handler for number, handler in found.items() if handler is not None})  # None: not Python's
    try:
        yield
    finally:
        _give_back()


def block_signals() -> set[signal.Signals] | None:
    """
    Let no SIGINT and SIGTERM come in this thread from now on, and return what was held back before: for a fork.

    Until it has handlers of its own a child would tell its parent of them, with which it shares the descriptor that
    asyncio is woken by. None where this thread is not asked for signals.
    """
    with contextlib.suppress(OSError, ValueError):
        return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)}
    return None


def unblock_signals(held: set[signal.Signals] | None) -> None:
    """
    Unblock the signals that `block_signals` blocked, as the last thing at a fork.

    What their handlers raise there Python ignores, and KeyboardInterrupt would be lost. So those that came meanwhile
    are sent again once that is over.
    """
    if held is None:
        return
    came = [number for number in ENDING if number not in held and callable(signal.getsignal(number)) and _take(number)]
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    if came:
        inside = {unblock_signals.__code__, sys._getframe(1).f_code}
        threading.Thread(target=_send_again, args=(came, threading.get_ident(), inside), daemon=True).start()


def _take(number: signal.Signals) -> bool:
    """Return whether a signal that is held back has come, and take it."""
    if number not in signal.sigpending():
        return False
    if hasattr(signal, "sigtimedwait"):
        return signal.sigtimedwait([number], 0) is not None
    signal.sigwait([number])
    return True


def _send_again(numbers: list[signal.Signals], ident: int, inside: set[CodeType]) -> None:
    """Send signals to this process once a thread of it is in none of these functions any more."""
    while any(frame.f_code in inside for frame in _frames_of(ident)):
        time.sleep(0.001)
    for number in numbers:
        os.kill(os.getpid(), number)


def _frames_of(ident: int) -> Iterator[FrameType]:
    frame = sys._current_frames().get(ident)
    while frame is not None:
        yield frame
        frame = frame.f_back


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
