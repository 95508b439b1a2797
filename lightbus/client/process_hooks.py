"""Forks and the end of the process: a child gets engines of its own, and nobody keeps a program from ending."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from ..adapters.sqlite.outbox import Outbox
from ..blocking import note_exit
from .signals import forget_in_child, held_back, let_in

if TYPE_CHECKING:
    from .engine_holder import ClientCore
    from .lifecycle import Life

__all__ = ["CLIENTS"]

CLIENTS: weakref.WeakSet[ClientCore] = weakref.WeakSet()
"""Every client of this process that is still used."""

_GRAVEYARD: list[Any] = []
"""What a forked child inherited and must not touch: closing the parent's sockets here would use them twice."""


_FORKS = threading.local()
"""`resume`: what lets those go on that stand still for this thread's fork; `signals`: what it held back before."""

FORK_PATIENCE = 2.0
"""Seconds for which a fork waits for an engine to stand still: longer than its imports take on a busy machine."""


def _before_fork() -> None:
    _FORKS.signals = held_back()
    _FORKS.resume = []
    if Outbox.lock.acquire(timeout=FORK_PATIENCE):
        _FORKS.resume.append(Outbox.lock.release)
    for client in list(CLIENTS):
        # Whoever makes an engine imports: the child would inherit the lock of a module that nobody there imports on.
        if client._lock.acquire(timeout=FORK_PATIENCE):
            _FORKS.resume.append(client._lock.release)
        if client._engine is not None:
            _FORKS.resume.append(client._engine.pause(FORK_PATIENCE))


def _after_fork_in_parent() -> None:
    for resume in _FORKS.resume:
        resume()
    let_in(_FORKS.signals)


def _after_fork_in_child() -> None:
    forget_in_child(has_worker=any(client._worker is not None for client in CLIENTS))
    Outbox.lock = threading.Lock()
    for client in list(CLIENTS):
        if client._engine is not None:
            client._engine.shelf.abandon()
        _GRAVEYARD.append((client._engine, client._blocking, client._worker, client._background, client._lock))
        client._engine = client._blocking = client._worker = client._background = None
        client._publishing = client._going_on = client._outbox = None
        client._kept = Counter()
        client._lock = threading.RLock()
    let_in(_FORKS.signals)  # last: what a handler raises here ends this function


def _at_exit() -> None:
    note_exit()
    for client in list(CLIENTS):
        with contextlib.suppress(Exception):
            cast("Life", client).close()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
