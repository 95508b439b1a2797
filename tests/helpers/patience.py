"""
Calls that wait as long as all else in the tests does.

That a call is to be answered within five seconds, and an event to be taken, is a default for machines that have nothing
else to do. Where tests run side by side, and beside other work, a process may not get its turn for as long. So they
have longer defaults, as if a file had set them; a test of what is late says what late is.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["patient_calls"]

SECONDS = 60.0

SETTINGS = {"apis": {"default": {"rpc_timeout": SECONDS, "event_fire_timeout": SECONDS}}}


LONGER = {
    ("lightbus.engine.loop_host", "STOP_TIMEOUT"): 20.0,
    ("lightbus.cli.support.connection", "ASK_TIMEOUT"): 5.0,
    ("lightbus.cli.support.publishers", "ASK_TIMEOUT"): 5.0,
}
"""Seconds of other waits. Not as long as all others: some tests have a worker hang, and wait for the end of it."""


@contextmanager
def patient_calls() -> Iterator[None]:
    """Add these settings below all others of a process, and use longer timeouts in its modules."""
    loading: Any = importlib.import_module("lightbus.config.loading")  # not before: who starts says where bytecode is
    given = loading._given

    def patient(*args: Any) -> list[Any]:
        return [loading.Layer(origin="the tests", values=SETTINGS), *given(*args)]

    changed = [(loading, "_given", given)]
    loading._given = patient
    for (name, constant), seconds in LONGER.items():
        if (module := sys.modules.get(name)) is not None:
            changed.append((module, constant, getattr(module, constant)))
            setattr(module, constant, seconds)
    try:
        yield
    finally:
        for module, constant, before in changed:
            setattr(module, constant, before)
