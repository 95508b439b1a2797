"""Tests of `lightbus.interrupts`: what a wait raises that Ctrl-C ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from lightbus.interrupts import interruptible


def start() -> None:
    """Start threads, until one had to be waited for: the others ran at once."""
    while True:
        interruptible(threading.Thread(target=lambda: None).start)


def get_result() -> None:
    """Wait for the result of a future."""
    interruptible(Future[None]().result, 0.001)


def wait_for_condition() -> None:
    """Wait for a condition."""

    def wait(condition: threading.Condition) -> None:
        with condition:
            condition.wait(0.001)

    interruptible(wait, threading.Condition())


@pytest.mark.parametrize("wait", [start, get_result, wait_for_condition])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_interrupt_before_a_lock_is_taken_back(
    wait: Callable[[], None], raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception of a signal handler is raised, and not that of the `with` that finds its lock released."""
    make, waiter = threading.Condition.__init__, threading.get_ident()

    def make_interrupted(condition: Any, *lock: Any) -> None:
        make(condition, *lock)
        take_back = condition._acquire_restore

        def interrupted(state: Any) -> None:
            if threading.get_ident() == waiter:
                raise raised
            take_back(state)

        condition._acquire_restore = interrupted

    monkeypatch.setattr(threading.Condition, "__init__", make_interrupted)
    with pytest.raises(raised):
        wait()


def test_other_errors_are_raised_as_they_are() -> None:
    """A RuntimeError that no interrupt has caused is none."""
    thread = threading.Thread(target=lambda: None)
    interruptible(thread.start)
    thread.join()
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        interruptible(thread.start)
