"""
Calls that wait as long as all else in the tests does.

That a call is to be answered within five seconds, and an event to be taken, is a default for machines that have nothing
else to do. Where tests run side by side, and beside other work, a process may not get its turn for as long. So they
have longer defaults, as if a file had set them; a test of what is late says what late is.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["patient_calls"]

SECONDS = 60.0

SETTINGS = {"apis": {"default": {"rpc_timeout": SECONDS, "event_fire_timeout": SECONDS}}}


@contextmanager
def patient_calls() -> Iterator[None]:
    """Lay these settings below all others that a process has."""
    loading: Any = importlib.import_module("lightbus.config.loading")  # not before: who starts says where bytecode is
    given = loading._given

    def patient(*args: Any) -> list[Any]:
        return [loading.Layer(origin="the tests", values=SETTINGS), *given(*args)]

    loading._given = patient
    try:
        yield
    finally:
        loading._given = given
