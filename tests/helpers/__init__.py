"""
What tests share. `from helpers import ...` works in every test: `tests` is on pytest's `pythonpath` (pyproject.toml).

Nothing here knows the inside of the library; the fixtures that use it are in tests/conftest.py.
"""

from __future__ import annotations

from .doors import DOORS, Door
from .processes import Process, Processes
from .scale import MS, SCALE, examples, scaled
from .stopwatch import Stopwatch
from .terminal import Terminal, on_terminal
from .waiting import wait_until, wait_until_async

__all__ = [
    "DOORS",
    "MS",
    "SCALE",
    "Door",
    "Process",
    "Processes",
    "Stopwatch",
    "Terminal",
    "examples",
    "on_terminal",
    "scaled",
    "wait_until",
    "wait_until_async",
]
