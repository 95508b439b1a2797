"""
Longer default timeouts for the tests.

By default a call must be answered, and an event accepted, within five seconds. That suits a machine that is not
overloaded. Where tests run side by side, or beside other work, a process may not get a processor for that long. So
tests have longer defaults, as if a file had set them. A test of timeouts sets its own.
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
    ("lightbus.client.lifecycle", "BACKGROUND_START_TIMEOUT"): SECONDS,
    ("lightbus.cli.support.connection", "ASK_TIMEOUT"): 5.0,
    ("lightbus.cli.support.publishers", "ASK_TIMEOUT"): 5.0,
}
"""Other timeouts, in seconds. Most are shorter: some tests let a worker hang, and wait until they have passed."""


@contextmanager
def patient_calls() -> Iterator[None]:
    """Use these settings in this process where nothing else sets them, and the longer timeouts in its modules."""
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
