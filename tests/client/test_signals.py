"""SIGINT and SIGTERM around a worker and a fork: their handlers, and that no signal is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from helpers import wait_until
from lightbus.client.signals import ENDING, block_signals, restoring_signals, unblock_signals

came: list[int] = []


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """Record the received signals."""

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    came.clear()
    before = {number: signal.signal(number, note) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_restored() -> None:
    """The former handlers are restored, also after an exception."""
    mine = [signal.getsignal(number) for number in ENDING]
    with contextlib.suppress(ZeroDivisionError), restoring_signals():
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in ENDING] == mine


@pytest.mark.parametrize("number", ENDING)
def test_held_back_signal_comes_later(number: signal.Signals) -> None:
    """A signal that comes while they are held back is not handled until they are let in, and then once."""

    def meanwhile() -> None:
        held = block_signals()
        try:
            # To this thread: what is sent to the process another thread takes, where there is one.
            signal.pthread_kill(threading.get_ident(), number)
            assert came == []
        finally:
            unblock_signals(held)

    meanwhile()
    wait_until(lambda: came == [number])
    assert not {*ENDING} & signal.pthread_sigmask(signal.SIG_BLOCK, ())
