"""
The first process of a container: signals without a handler do not end it, and it must reap orphans.

So it only passes on signals and reaps, as `tini` does, and `lightbus run` continues in a child process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

__all__ = ["continue_in_child"]

PASSED_ON = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
)


def continue_in_child() -> None:
    """Return at once unless this is the first process; there, fork, and return only in the child."""
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = os.fork()
    if child == 0:
        _take_foreground()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _reap_until(child)


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _reap_until(child: int) -> None:
    """Reap orphans until the child ends; exit with its exit code."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _take_foreground() -> None:
    """Make Ctrl-C at a terminal reach only the child: else its parent would pass it on a second time."""
    os.setpgid(0, 0)
    if sys.stdin is None or not sys.stdin.isatty():
        return
    ignored = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    signal.signal(signal.SIGTTOU, ignored)
