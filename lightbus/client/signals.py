"""SIGINT and SIGTERM while a process runs a worker: they stop it; a forked child gets the former handlers back."""

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
"""The program's own handlers of these signals, while `run_forever` has replaced them."""


@contextlib.contextmanager
def restoring_signals() -> Iterator[None]:
    """Restore, after the body, the previous handlers of SIGINT and SIGTERM. In the main thread only."""
    found = {number: signal.getsignal(number) for number in ENDING}
    _before.update({number: handler for number, handler in found.items() if handler is not None})  # None: set in C
    try:
        yield
    finally:
        _restore_handlers()


def block_signals() -> set[signal.Signals] | None:
    """
    Block SIGINT and SIGTERM in this thread, for a fork, and return the signals that were blocked before.

    A child shares with its parent the file descriptor that wakes asyncio: until the child has its own handlers, a
    signal to it would wake the parent's loop. None if this thread cannot block signals.
    """
    with contextlib.suppress(OSError, ValueError):
        return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)}
    return None


def unblock_signals(held: set[signal.Signals] | None) -> None:
    """
    Unblock the signals that `block_signals` blocked, as the last step of a fork.

    Python ignores exceptions in fork handlers, so that a KeyboardInterrupt would be lost there. So signals that arrived
    meanwhile are sent again after the fork handlers have returned.
    """
    if held is None:
        return
    came = [number for number in ENDING if number not in held and callable(signal.getsignal(number)) and _take(number)]
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    if came:
        inside = {unblock_signals.__code__, sys._getframe(1).f_code}
        threading.Thread(target=_send_again, args=(came, threading.get_ident(), inside), daemon=True).start()


def _take(number: signal.Signals) -> bool:
    """Return whether a blocked signal is pending, and consume it."""
    if number not in signal.sigpending():
        return False
    if hasattr(signal, "sigtimedwait"):
        return signal.sigtimedwait([number], 0) is not None
    signal.sigwait([number])
    return True


def _send_again(numbers: list[signal.Signals], ident: int, inside: set[CodeType]) -> None:
    """Send signals to this process once the given thread has left these functions."""
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
    """Give SIGINT and SIGTERM, in a forked child, the handlers they had before there was a worker."""
    if threading.current_thread() is not threading.main_thread():
        return  # does not happen: the thread that forks is the child's main thread
    if _before or has_worker:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)  # the parent's, whose loop would take the child's signals for its own
    _restore_handlers()
    if has_worker:
        _undo_asyncio_handlers()


def _restore_handlers() -> None:
    for number, handler in _before.items():
        with contextlib.suppress(ValueError, TypeError):
            signal.signal(number, handler)
    _before.clear()


def _undo_asyncio_handlers() -> None:
    """Restore the default action of signals that an asyncio loop handles: without its descriptor they are ignored."""
    nothing = getattr(asyncio.unix_events, "_sighandler_noop", None)
    defaults: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, default in defaults.items():
        if nothing is not None and signal.getsignal(number) is nothing:
            signal.signal(number, default)
