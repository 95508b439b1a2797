"""Failures inside a process of the run: lost frames, and a wrong wall clock."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.losing import kind_of_published
from lightbus.adapters.zmq.bound_sockets import Router
from lightbus.adapters.zmq.connecting_sockets import Dealer, Subscriber
from lightbus.wire.envelope import Kind

__all__ = ["begin", "clock_file"]

LOOK_EVERY = 0.2
"""Seconds between two looks at what the wall clock is to say."""


def clock_file(directory: Path) -> Path:
    """Return the file with the offset of the run's wall clocks in seconds."""
    return directory / "clock"


def begin() -> None:
    """Start the failures in the environment: `CHAOS_DROP` (a share of the frames), `CHAOS_CLOCK` (a file)."""
    if part := float(os.environ.get("CHAOS_DROP", "0")):
        _lose(random.Random(f"{os.environ['CHAOS_SEED']}-{os.getpid()}"), part)
    if path := os.environ.get("CHAOS_CLOCK"):
        _follow_clock(Path(path))


def _lose(chance: random.Random, part: float) -> None:
    """Lose a share of the messages between consumers and publishers."""

    def is_lost(kind: Callable[[], int]) -> bool:
        return chance.random() < part and kind() >= Kind.JOIN

    def wrap(cls: Any, kind: Callable[[bytes], int]) -> None:
        original = cls.__init__

        def init(self: Any, socket: Any, on_message: Callable[..., None], *rest: Any, **options: Any) -> None:
            def on(*frames: bytes) -> None:  # of a ROUTER the routing id comes first
                if not is_lost(lambda: kind(frames[-1])):
                    on_message(*frames)

            original(self, socket, on, *rest, **options)

        cls.__init__ = init

    wrap(Subscriber, kind_of_published)
    wrap(Dealer, lambda frame: frame[0])
    wrap(Router, lambda frame: frame[0])


def _follow_clock(path: Path) -> None:
    """Shift `time.time` by the seconds in a file, from now on."""
    real, offset = time.time, 0.0
    time.time = lambda: real() + offset

    def follow() -> None:
        nonlocal offset
        while True:
            with contextlib.suppress(OSError, ValueError):  # it is being written
                offset = float(path.read_text())
            time.sleep(LOOK_EVERY)

    threading.Thread(target=follow, daemon=True).start()
