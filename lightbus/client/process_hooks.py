"""Forks and the exit of the process: a child makes its own engines, and no thread keeps a program from exiting."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - registered first: its lock, which loops take, is held after our wait
import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..adapters.sqlite.outbox import HostOutbox
from ..blocking import note_exit
from ..engine.loop_host import paused_for_fork
from .engine_holder import EngineHolder
from .lifecycle import Lifecycle
from .outbox import UnpublishedEvents
from .signals import block_signals, forget_in_child, unblock_signals
from .worker_holder import WorkerHolder

__all__ = ["InProcess"]

logger = logging.getLogger("lightbus.client")

_INHERITED: list[Any] = []
"""The parent's objects in a forked child, kept from collection: closing its sockets here would disturb the parent."""


_fork_state = threading.local()
"""`resume`: functions that end the pause of the engines for this fork; `signals`: those blocked before it."""

PREFORKING = ("gunicorn.arbiter", "uwsgi")
"""Modules of web servers that import a program once, and then fork the processes that serve it."""

FORK_PATIENCE = 2.0
"""Seconds for which a fork waits for an engine to pause: more than the engine's imports take on a busy machine."""


class InProcess:
    """
    The handlers of a client for forks and the exit of the process. Active until it is collected.

    Args:
        engines, workers, unpublished, lifecycle: the parts of the client with state that belongs to one process.
        close: closes the client.

    """

    def __init__(
        self,
        engines: EngineHolder,
        workers: WorkerHolder,
        unpublished: UnpublishedEvents,
        lifecycle: Lifecycle,
        close: Callable[[], None],
    ) -> None:
        self.close = close
        self._engines = engines
        self._workers = workers
        self._unpublished = unpublished
        self._lifecycle = lifecycle
        self._has_warned = False
        _CLIENTS.add(self)

    @property
    def has_worker(self) -> bool:
        """Whether this client has a worker."""
        return self._workers.worker is not None

    def pause(self, seconds: float) -> list[Callable[[], None]]:
        """Pause the client's engine, and return the functions that resume it, to call in reverse order."""
        resume: list[Callable[[], None]] = []
        lock = self._engines.lock
        # Making an engine imports modules: a child forked meanwhile would inherit an import lock that nobody releases.
        if lock.acquire(timeout=seconds):
            resume.append(lock.release)
        engine = self._engines.opened
        if engine is not None:
            resume.append(engine.pause(seconds))
        return resume

    def warn_of_worker(self) -> None:
        """Log once that forked processes have no background worker, if a web server forks them."""
        in_background = self._lifecycle.thread is not None and self.has_worker and not self._workers.publishes_only
        if not in_background or self._has_warned or not any(name in sys.modules for name in PREFORKING):
            return
        self._has_warned = True
        logger.warning(
            "This process was forked, and runs a worker in the background. The worker stays here, in the process %d: "
            "the forked processes have none. To have a worker in each of them, call start_in_background() after the "
            "fork, as in post_fork of gunicorn.conf.py, and not where the program is imported.",
            os.getpid(),
        )

    def abandon(self) -> list[Any]:
        """Forget, in a child, the objects of the parent, and return them: they must stay untouched."""
        inherited = [*self._engines.abandon(), self._workers.abandon(), self._lifecycle.abandon()]
        self._unpublished.abandon()
        return inherited


_CLIENTS: weakref.WeakSet[InProcess] = weakref.WeakSet()
"""Every client of this process that has not been collected."""


_fork_lock = threading.Lock()
"""Held by the thread that forks: two threads that fork at once would each wait for the other to pause."""


def _before_fork() -> None:
    _fork_state.signals = block_signals()
    _fork_state.resume = []
    with paused_for_fork():
        if _fork_lock.acquire(timeout=FORK_PATIENCE):
            _fork_state.resume.append(_fork_lock.release)
    if HostOutbox.lock.acquire(timeout=FORK_PATIENCE):
        _fork_state.resume.append(HostOutbox.lock.release)
    for client in list(_CLIENTS):
        _fork_state.resume += client.pause(FORK_PATIENCE)


def _after_fork_in_parent() -> None:
    for resume in reversed(_fork_state.resume):
        resume()
    for client in list(_CLIENTS):
        client.warn_of_worker()
    unblock_signals(_fork_state.signals)


def _after_fork_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.Lock()
    forget_in_child(has_worker=any(client.has_worker for client in _CLIENTS))
    HostOutbox.lock = threading.Lock()
    for client in list(_CLIENTS):
        _INHERITED.append(client.abandon())
    unblock_signals(_fork_state.signals)  # last: an exception of a signal handler here ends this function


def _at_exit() -> None:
    note_exit()
    for client in list(_CLIENTS):
        with contextlib.suppress(Exception):
            client.close()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
